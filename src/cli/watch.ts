/**
 * A run on the terminal as it happens: what it does line by line, and below it on a terminal how it stands, with its
 * whole tree where it has children. Elsewhere what happens in the tree is a line an event.
 */
import type { Run } from '../contract/index.ts'
import type { Client } from '../sdk/client.ts'
import type { Context } from './context.ts'
import { entryLines } from './entries.ts'
import { CommandFailure, EXIT, exitOfRun } from './exits.ts'
import { followRun, type Sight } from './follow-run.ts'
import { followTree } from './follow-tree.ts'
import { paint } from './output.ts'
import { noticeLines, paintState, reasonOf, titleOf, tookOf, usageOf } from './states.ts'
import { treeLines } from './tree.ts'
import { eventLines, standingLines } from './tree-events.ts'

export type Watch = {
  client: Client
  run_id: string
  entries: boolean
  /** Lines shown of one tool's output. */
  lines_max?: number
  timeout_ms?: number | undefined
  fail_on_input?: boolean
}

/** The exit code for how the run ended. */
export async function watch(context: Context, asked: Watch): Promise<number> {
  const { out } = context
  const late = asked.timeout_ms === undefined ? null : AbortSignal.timeout(asked.timeout_ms)
  const signal = late ? AbortSignal.any([context.signal, late]) : context.signal
  const progress = out.progress(`run ${asked.run_id}`, 'status')
  let run: Run | null = null
  const tree = shownTree(context, asked, signal)
  try {
    for await (const sight of followRun({
      client: asked.client,
      run_id: asked.run_id,
      entries: asked.entries,
      others: tree.hear,
      signal,
    })) {
      const before: Run | null = run
      if (sight.kind === 'run') run = sight.run
      if (run && run.children.length > 0) tree.begin()
      await out.record(recordOf(sight), () => sightLines(sight, before, asked.lines_max))
      const shown = run
      const down = sight.kind === 'line' && sight.state === 'down'
      if (shown) progress.say(() => [standing(shown, down), ...tree.lines()].join('\n'))
      if (run?.state === 'BLOCKED' && asked.fail_on_input) return EXIT.needs_input
    }
  } catch (error) {
    throw interruption(context, asked.run_id, late, error)
  } finally {
    progress.done()
    await tree.close()
  }
  if (run === null) throw interruption(context, asked.run_id, late, signal.reason)
  if (!out.machine) for (const line of [...endLines(run), ...tree.lines()]) out.line(line)
  return EXIT[exitOfRun(run)]
}

/** The tree of a run that is watched: told as it moves, and standing as lines. */
function shownTree({ out }: Context, { client, run_id }: Watch, signal: AbortSignal) {
  let told: Promise<void> = Promise.resolve()
  const follower = followTree({
    client,
    run_id,
    signal,
    onTree(tree, events, first) {
      told = told.then(async () => {
        if (first) await out.record({ type: 'tree', tree }, () => [])
        if (!out.machine) {
          // A terminal shows the tree itself.
          if (out.height > 0) return
          const middle = first && !events.some((event) => event.event_type === 'child_agent_started')
          const standing = middle ? standingLines(tree, run_id, events) : []
          for (const line of [...standing, ...eventLines(events, tree, run_id)]) out.line(line)
          return
        }
        for (const event of events)
          if (event.run_id !== run_id.toLowerCase()) await out.record({ type: 'event', event }, () => [])
      })
    },
  })
  return {
    hear: follower.hear,
    begin: follower.begin,
    lines(): string[] {
      follower.freshen()
      const tree = follower.current()
      if (tree === null) return []
      const room = out.height > 0 ? { nodes_max: Math.max(1, out.height - ROWS_BESIDE) } : {}
      return treeLines(tree, { now: Date.now(), width: out.width, ...room })
    },
    async close(): Promise<void> {
      const tree = await follower.close()
      await told
      if (tree && out.machine) await out.record({ type: 'tree', tree }, () => [])
    },
  }
}

/** Lines of a standing tree that are not of a run. */
const ROWS_BESIDE = 4

/** Why following stopped early, worded for who waits. */
export function interruption(context: Context, run_id: string, late: AbortSignal | null, error: unknown): unknown {
  const again = `Follow it again with: baton run watch ${run_id}`
  if (context.signal.aborted)
    return new CommandFailure(
      'interrupted',
      `Stopped watching; run ${run_id} goes on.`,
      `${again}\nEnd it with: baton run cancel ${run_id}`,
    )
  if (late?.aborted)
    return new CommandFailure('timeout', `Run ${run_id} has not ended in the time given; it goes on.`, again)
  return error
}

function recordOf(sight: Sight): unknown {
  switch (sight.kind) {
    case 'run':
      return { type: 'run', run: sight.run }
    case 'entry':
      return { type: 'entry', entry: sight.entry }
    case 'event':
      return { type: 'event', event: sight.event }
    case 'line':
      return { type: 'line', state: sight.state }
  }
}

function sightLines(sight: Sight, before: Run | null, lines_max?: number): string[] {
  switch (sight.kind) {
    case 'entry':
      return entryLines(sight.entry, lines_max)
    case 'run': {
      const { run } = sight
      const reason = reasonOf(run)
      const same = before?.state === run.state && reasonOf(before) === reason
      const told = new Set(before?.notices.map((notice) => notice.notice_id))
      const notices = run.notices.filter((notice) => !told.has(notice.notice_id)).flatMap(noticeLines)
      const batch = before === null && run.is_batch ? [`It is a batch: baton batch watch ${run.run_id}`] : []
      if (same || ENDS.has(run.state)) return [...batch, ...notices]
      const title = before === null ? ` ${paint.bold(titleOf(run))}` : ''
      return [
        `${paintState(run.state)}${title}${reason === undefined ? '' : paint.dim(` (${reason})`)}`,
        ...batch,
        ...notices,
      ]
    }
    case 'event':
      return []
    case 'line':
      return sight.state === 'down' ? [paint.yellow('! the server does not answer; trying again')] : []
  }
}

const ENDS = new Set(['SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED'])

function standing(run: Run, down: boolean): string {
  const parts = [paintState(run.state), tookOf(run), usageOf(run), down ? paint.yellow('server away') : undefined]
  return parts.filter((part) => part !== undefined).join(' · ')
}

export function endLines(run: Run): string[] {
  const used = usageOf(run)
  const took = tookOf(run)
  const how = [took === undefined ? '' : `in ${took}`, used === undefined ? '' : `(${used})`]
    .filter((part) => part !== '')
    .join(' ')
  const why = run.state === 'SUCCEEDED' ? undefined : reasonOf(run)
  return [`${paintState(run.state)}${how === '' ? '' : ` ${how}`}`, ...(why === undefined ? [] : [`  ${why}`])]
}
