/**
 * Opens a harness on the session that was kept of its run, put back where it looks for it. Where that cannot be, it
 * begins a new session, and the transcript says so once; what happened before is then in its first prompt.
 */
import type { Assignment, KeptSession } from '../contract/index.ts'
import { whyOf } from '../contract/why.ts'
import { pause, Unreachable } from '../sdk/calls.ts'
import type { Drive } from './drive.ts'
import { short } from './failures.ts'
import { type Harness, HarnessFailure, type HarnessStart, type OpenHarness } from './harnesses/harness.ts'
import type { Stamps } from './pack.ts'
import { ANSWER_MS, awayDelay, isAway, isSuperseded } from './upload.ts'

/** A server that answers, but does not give it, is asked so often. */
const ASKS_MAX = 4

/** `resume`: what it was opened to go on with. `held`: the files that the server holds, as they are now. */
export type Opened = { open: OpenHarness | null; resume: Assignment['resume']; held: Stamps }

type Opener = (start: HarnessStart) => Promise<OpenHarness | null>

export async function openResumed(its: Drive, harness: Harness, start: HarnessStart, open: Opener): Promise<Opened> {
  const { resume } = start.assignment
  const folders = harness.session_folders ?? []
  const held: Stamps = new Map()
  if (!resume?.kept || folders.length === 0) return { open: await open(start), resume, held }
  const { clearSession, unpackSession } = await import('./pack.ts')
  const begin = async (why: string): Promise<Opened> => {
    sayFailed(its, why)
    await clearSession(start.home, folders)
    return { open: await open({ ...start, assignment: { ...start.assignment, resume: null } }), resume: null, held }
  }
  let restored: Stamps
  try {
    const { files } = await keptSession(its)
    restored = await unpackSession(start.home, folders, files)
    await harness.moveSession?.(start.home, start.workspace)
  } catch (error) {
    its.stop.signal.throwIfAborted()
    return begin(whyOf(error))
  }
  try {
    return { open: await open(start), resume, held: restored }
  } catch (error) {
    // A session may be such that its harness does not start on it.
    if (!(error instanceof HarnessFailure) || !error.failure.retryable || its.stop.reason !== null) throw error
    return begin(whyOf(error))
  }
}

async function keptSession({ client, assignment, stop }: Drive): Promise<KeptSession> {
  const params = { execution_id: assignment.execution_id }
  for (let asks = 1; ; asks++) {
    try {
      const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(ANSWER_MS)])
      return await client.executions.session({ params, signal })
    } catch (error) {
      stop.signal.throwIfAborted()
      if (error instanceof Unreachable) asks = 0
      else if (isSuperseded(error) || !isAway(error) || asks >= ASKS_MAX) throw error
      await pause(awayDelay(asks), stop.signal)
    }
  }
}

function sayFailed({ transcript }: Drive, why: string): void {
  const text = `The earlier session could not be resumed (${why}); a new one begins without its memory.`
  transcript.system('warning', 'resume_failed', short(text))
}
