/** What a runner's report means for whoever started it. */
import type { ExitReport } from '../runner/run.ts'
import type { ExitName } from './exits.ts'

/** `said`: what went wrong, for people. Without it, it succeeded or was cancelled. */
export function endOf(report: ExitReport, signal: AbortSignal): { exit: ExitName; said?: string } {
  switch (report.end) {
    case 'superseded':
      return { exit: 'conflict', said: report.message }
    case 'refused':
      return { exit: 'failed', said: report.message }
    case 'unreachable':
      return { exit: 'unreachable', said: report.message }
    case 'finished':
      break
  }
  const { outcome } = report
  if (outcome.outcome === 'SUCCEEDED') return { exit: 'ok' }
  if (outcome.outcome === 'CANCELLED') return { exit: signal.aborted ? 'interrupted' : 'run_failed' }
  const { error_code, message } = outcome.failure
  const budget = error_code === 'budget_exceeded' || error_code === 'insufficient_credits'
  return { exit: budget ? 'budget' : 'run_failed', said: message }
}
