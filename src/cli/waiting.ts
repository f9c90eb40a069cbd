/** What a command that started a run does next: nothing, wait for its end, or show it as it happens. */
import type { Command } from 'commander'
import type { Run } from '../contract/index.ts'
import { API_PREFIX, type CreatedRun, runRoutes } from '../contract/index.ts'
import { type Client, fillPath } from '../sdk/client.ts'
import { bodyOf, type Context } from './context.ts'
import { CommandFailure, EXIT, exitOfRun } from './exits.ts'
import { followRun } from './follow-run.ts'
import { paintState, reasonOf } from './states.ts'
import { parseDuration } from './text.ts'
import { endLines, interruption, watch } from './watch.ts'

export function declareWaiting(command: Command): Command {
  return command
    .option('--wait', 'wait until it has ended; the exit code says how')
    .option('--follow', 'show what it does until it has ended; the exit code says how')
    .option(
      '--timeout <duration>',
      'with --wait or --follow: stop waiting after this long (exit code 8); the run goes on',
      checkLimit,
    )
    .option('--fail-on-input', 'with --wait or --follow: stop with exit code 7 when the run waits for a person')
}

/** Node's timers hold no more than 2^31 - 1 milliseconds; a longer one ends at once. */
const WAIT_MS_MAX = 24 * 86_400_000

/** In whole milliseconds: `AbortSignal.timeout` takes no others. */
export function limitOf(given: unknown): number | undefined {
  if (given === undefined) return undefined
  const ms = parseDuration(String(given))
  if (ms === null || ms <= 0)
    throw new CommandFailure('usage', `"${String(given)}" is no duration.`, 'Write it as 30s, 10m or 1h30m.')
  if (ms > WAIT_MS_MAX)
    throw new CommandFailure('usage', `"${String(given)}" is too long.`, 'It may be 24d; without it there is no limit.')
  return Math.ceil(ms)
}

/** Refused before anything is made. */
function checkLimit(given: string): string {
  limitOf(given)
  return given
}

/** `created` is the record of what was made, `said` its lines for a person. Answers the exit code. */
export async function waitAsAsked(
  context: Context,
  client: Client,
  options: Record<string, unknown>,
  { created, said }: { created: CreatedRun; said: string[] },
): Promise<number> {
  const { out } = context
  const timeout_ms = limitOf(options.timeout)
  const fail_on_input = options.failOnInput === true
  if (options.follow === true) {
    await out.record(created, () => said)
    return watch(context, { client, run_id: created.run_id, entries: true, timeout_ms, fail_on_input })
  }
  if (options.wait !== true) {
    await out.show(created, () => said)
    return EXIT.ok
  }
  if (!out.machine) for (const line of said) out.line(line)
  return waitForEnd(context, client, { run_id: created.run_id, timeout_ms, fail_on_input })
}

export type Wait = { run_id: string; timeout_ms?: number | undefined; fail_on_input?: boolean }

/** Shows the run as it stands in the end; answers the exit code for it. */
export async function waitForEnd(context: Context, client: Client, asked: Wait): Promise<number> {
  const { out } = context
  const late = asked.timeout_ms === undefined ? null : AbortSignal.timeout(asked.timeout_ms)
  const signal = late ? AbortSignal.any([context.signal, late]) : context.signal
  const progress = out.progress(`Waiting for run ${asked.run_id}`)
  let run: Run | null = null
  try {
    for await (const sight of followRun({ client, run_id: asked.run_id, entries: false, signal })) {
      if (sight.kind !== 'run') continue
      run = sight.run
      const reason = reasonOf(run)
      progress.say(
        `Waiting for run ${asked.run_id}: ${paintState(run.state)}${reason === undefined ? '' : ` (${reason})`}`,
      )
      if (run.state === 'BLOCKED' && asked.fail_on_input) break
    }
  } catch (error) {
    throw interruption(context, asked.run_id, late, error)
  } finally {
    progress.done()
  }
  const body = await bodyOf(
    await client.raw('GET', API_PREFIX + fillPath(runRoutes.get.path, { run_id: asked.run_id })),
  )
  await out.show(body, () => (run === null ? [] : endLines(run)))
  return run === null ? EXIT.failed : EXIT[exitOfRun(run)]
}
