/** What happens in a tree, an event a line. */
import type { Event, RunState, Tree, TreeNode } from '../contract/index.ts'
import { paint } from './output.ts'
import { paintState } from './states.ts'
import { oneLine, truncate } from './text.ts'
import { stateWord, tookIn } from './tree.ts'

const STATES: Record<string, RunState> = {
  run_queued: 'QUEUED',
  run_in_progress: 'INPROGRESS',
  run_succeeded: 'SUCCEEDED',
  run_failed: 'FAILED',
  run_errored: 'ERROR',
  run_blocked: 'BLOCKED',
  run_cancelled: 'CANCELLED',
}

const WORDS_COLUMNS = 80
const nameOf = (node: TreeNode): string => paint.bold(oneLine(node.name || node.title || node.run_id))
const wordsOf = (node: TreeNode): string =>
  node.last_words === undefined ? '' : `: ${truncate(oneLine(node.last_words), WORDS_COLUMNS)}`

/** Empty for what says nothing to a person; what the run at the top does is told elsewhere. */
export function eventLines(events: Event[], tree: Tree, top: string): string[] {
  const nodes = new Map(tree.nodes.map((node) => [node.run_id, node]))
  return events.flatMap((event) => {
    const node = nodes.get(event.run_id)
    if (node === undefined) return []
    if (event.event_type === 'new_message') return [`${paint.yellow('MESSAGE')} for ${nameOf(node)}`]
    if (event.event_type === 'user_notified' && node.run_id !== top)
      return [`${paint.yellow('NOTICE')} from ${nameOf(node)} ${paint.dim(`baton run get ${node.run_id}`)}`]
    if (event.event_type === 'child_agent_started') {
      const child = nodes.get(event.ref_id ?? '')
      return child
        ? [`${paint.dim('STARTED')} ${nameOf(child)} ${paint.dim(`(${child.harness}) ${child.run_id}`)}`]
        : []
    }
    const state = STATES[event.event_type]
    if (state === undefined || node.run_id === top || isBirth(event, node)) return []
    const ended = node.ended_at !== null && node.state === state
    return [`${paintState(state)} ${nameOf(node)}${ended ? paint.dim(` in ${tookIn(node, 0)}${wordsOf(node)}`) : ''}`]
  })
}

/** Its parent's event says the same. */
const isBirth = (event: Event, node: TreeNode): boolean =>
  event.event_type === 'run_queued' && event.occurred_at === node.created_at

/** How each run below stands where watching begins in the middle, but for those of which `events` tell. */
export function standingLines(tree: Tree, top: string, events: Event[]): string[] {
  const told = new Set([top, ...events.flatMap((event) => [event.run_id, event.ref_id ?? ''])])
  return tree.nodes.filter((node) => !told.has(node.run_id)).map((node) => `${stateWord(node)} ${nameOf(node)}`)
}
