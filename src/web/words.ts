/** The words that people read for what the wire calls otherwise: statuses, sources, harnesses, reasons. */
import {
  ENDED_STATES,
  type Execution,
  entryOf,
  harnessOf,
  isEnded,
  type Plan,
  type Run,
  type RunMode,
  type RunSource,
  type RunState,
  type TreeNode,
} from '../contract/index.ts'

export const STATUSES = ['queued', 'starting', 'working', 'needs_you', 'succeeded', 'failed', 'cancelled'] as const
/** The list is filtered by the first; `waiting` is a part of what works. */
export type Status = (typeof STATUSES)[number] | 'waiting'

export const STATUS_WORDS: Record<Status, string> = {
  queued: 'Queued',
  starting: 'Starting',
  working: 'Working',
  waiting: 'Waiting',
  needs_you: 'Needs you',
  succeeded: 'Succeeded',
  failed: 'Failed',
  cancelled: 'Cancelled',
}

const STATUS_OF: Record<RunState, Status> = {
  QUEUED: 'queued',
  PENDING: 'starting',
  CLAIMED: 'starting',
  INPROGRESS: 'working',
  BLOCKED: 'needs_you',
  SUCCEEDED: 'succeeded',
  FAILED: 'failed',
  ERROR: 'failed',
  CANCELLED: 'cancelled',
}

export const statusOf = (state: RunState): Status => STATUS_OF[state]

/** A run whose turn has ended and that waits for events is at work for the wire; for people it waits. */
export function runStatus(run: Pick<Run, 'state' | 'waiting_until'>): Status {
  return run.state === 'INPROGRESS' && run.waiting_until !== undefined ? 'waiting' : statusOf(run.state)
}
export const nodeStatus = (node: Pick<TreeNode, 'state' | 'waiting'>): Status =>
  node.state === 'INPROGRESS' && node.waiting ? 'waiting' : statusOf(node.state)

export function statesOf(status: Status): RunState[] {
  return (Object.keys(STATUS_OF) as RunState[]).filter((state) => STATUS_OF[state] === status)
}

export const isCancelling = (run: Run): boolean => run.cancel_requested && !isEnded(run.state)

export const statusWord = (run: Run): string => (isCancelling(run) ? 'Cancelling' : STATUS_WORDS[runStatus(run)])

export const canRetry = (run: Run): boolean =>
  ENDED_STATES.some((state) => state === run.state) && run.state !== 'SUCCEEDED'

/** What began an execution. */
export const CAUSE_WORDS: Record<Execution['cause'], string> = {
  start: 'First try',
  retry: 'Tried again by itself',
  requested: 'Retried on request',
  local: 'Started on a machine',
  message: 'Woken by a message',
}

export function executionStatus({ state, outcome }: Pick<Execution, 'state' | 'outcome'>): Status {
  if (state === 'offered' || state === 'claimed') return 'starting'
  switch (outcome) {
    case undefined:
      return 'working'
    case 'SUCCEEDED':
      return 'succeeded'
    case 'FAILED':
    case 'ERROR':
      return 'failed'
    case 'CANCELLED':
    case 'LAPSED':
      return 'cancelled'
  }
}

export function executionWord(execution: Pick<Execution, 'state' | 'outcome'>): string {
  if (execution.state === 'offered') return 'Offered'
  return execution.outcome === 'LAPSED' ? 'Never begun' : STATUS_WORDS[executionStatus(execution)]
}

const SOURCE_WORDS: Partial<Record<RunSource, string>> = {
  API: 'API',
  CLI: 'Command line',
  WEB_APP: 'Web page',
  LOCAL: 'Local',
  SLACK: 'Slack',
  LINEAR: 'Linear',
  JIRA: 'Jira',
  SCHEDULED_AGENT: 'Schedule',
  GITHUB_ACTION: 'GitHub Action',
  GITHUB_WEBHOOK: 'GitHub',
  GITLAB_WEBHOOK: 'GitLab',
  ORCHESTRATION: 'Another run',
}

export function sourceWord(source: RunSource): string {
  return SOURCE_WORDS[source] ?? source.charAt(0) + source.slice(1).toLowerCase().replaceAll('_', ' ')
}

export const HARNESS_WORDS: Record<string, string> = {
  baton: 'Built-in agent',
  claude: 'Claude Code',
  codex: 'Codex',
  gemini: 'Gemini CLI',
  opencode: 'OpenCode',
  command: 'Shell command',
}

/** `oz` is how public clients call the built-in agent. */
export const harnessWord = (name: string): string => entryOf(HARNESS_WORDS, name === 'oz' ? 'baton' : name) ?? name

export function waitingWords(run: Run): string | undefined {
  if (run.state !== 'QUEUED') return undefined
  switch (run.waiting_for) {
    case 'capacity':
      return 'Waiting for its turn: as many runs are working as the team allows at once.'
    case 'worker':
      return workerWanted(run.agent_config?.worker_host)
    case 'retry':
      return 'An earlier try failed for a passing reason. It is tried again by itself.'
    case 'parent':
      return 'Waiting for its parent to start it in the same sandbox.'
    case 'tasks':
      return 'Waiting for the tasks that it depends on.'
    case 'lane':
      return 'Waiting for one of its siblings to end: as many are working as may at once.'
    case 'release':
      return 'Its tree was stopped. It begins when somebody releases the tree.'
    case undefined:
      return 'Waiting to be given to a worker.'
  }
}

/** `warp` is how public clients say: any. A worker by another name would not take the run. */
const workerWanted = (host: string | undefined): string =>
  !host || host === 'warp'
    ? 'Waiting for a worker with a free place that has this harness. Start one with: baton worker'
    : `Waiting for a free place on the worker ${host}, which must have this harness. If it is not connected, start it with: baton worker --worker-id ${host}`

/** What a person can do about a failure, by its code. */
export function adviceFor(error_code: string | undefined, retryable: boolean | undefined): string {
  switch (error_code) {
    case 'environment_setup_failed':
      return 'Look at the repository, its ref and the setup commands in the transcript below, mend what failed, then retry or start a new run.'
    case 'external_authentication_required':
    case 'authentication_required':
      return 'The harness has no working login or key on the worker. Sign it in there, then retry.'
    case 'not_authorized':
      return 'Something that the run asked for was refused to it. Give it access, then retry.'
    case 'insufficient_credits':
    case 'budget_exceeded':
      return 'The model provider or a limit refused to go on. Raise the limit or add credit, then retry.'
    case 'resource_not_found':
      return 'Something that the run names does not exist. Start a new run with the right name.'
    case 'operation_not_supported':
      return 'Mend what the message names, or give the run another harness or configuration, then retry or start a new run.'
    case 'resource_unavailable':
      return 'Something that the run needs was not available. Retry in a while.'
    case 'internal_error':
      return 'This is a fault of Baton or of the machine, not of your prompt. Retry; if it comes again, look at the logs of the worker and the server.'
    default:
      return retryable
        ? 'It may work when tried again.'
        : 'The end of the transcript below says what happened. Mend it, then retry or start a new run.'
  }
}

export function sizeWords(bytes: number): string {
  if (bytes < 1000) return `${bytes} bytes`
  return bytes < 1_000_000
    ? `${(bytes / 1000).toFixed(bytes < 10_000 ? 1 : 0)} kB`
    : `${(bytes / 1_000_000).toFixed(1)} MB`
}

/** `2 working · 1 needs you`, in the order of what asks for attention first. */
export function countWords(counts: Partial<Record<Status, number>>): string {
  return ATTENTION.flatMap((status) => {
    const count = counts[status] ?? 0
    return count === 0 ? [] : [`${count} ${STATUS_WORDS[status].toLowerCase()}`]
  }).join(' · ')
}

/** Children by status, as the wire counts them: those that wait are among those at work. */
export function runCounts(run: Run): Partial<Record<Status, number>> {
  const counts: Partial<Record<Status, number>> = {}
  for (const state of Object.keys(STATUS_OF) as RunState[]) {
    const count = run.child_states[state] ?? 0
    if (count > 0) counts[STATUS_OF[state]] = (counts[STATUS_OF[state]] ?? 0) + count
  }
  return counts
}

/** What asks for attention first. */
export const ATTENTION: Status[] = [
  'needs_you',
  'failed',
  'working',
  'starting',
  'queued',
  'waiting',
  'cancelled',
  'succeeded',
]

/** Why a message cannot wake this run; undefined: it can, or needs no waking. */
export function whyNotWoken(run: Run): string | undefined {
  if (!isEnded(run.state)) return undefined
  if (harnessOf(run.agent_config) === 'command')
    return 'This run was a plain command and has ended: there is nobody to read a message.'
  if (run.placement === 'parent') return 'This run has ended, and so has the sandbox of its parent that it ran in.'
  if (run.execution_location === 'LOCAL')
    return "This run has ended, and the place where it ran is not a worker's: it cannot be woken from here."
  return undefined
}

/** What becomes of a message to this run. */
export function deliveryWords(run: Run): string {
  switch (runStatus(run)) {
    case 'queued':
    case 'starting':
      return 'It has not begun: it finds the message after its first turn.'
    case 'working':
      return 'It is at work: the message joins its turn where its harness can do that, else it comes next.'
    case 'waiting':
      return 'It waits for messages: it goes on with this one at once.'
    case 'needs_you':
      return 'It is held until a person answers it: the message is kept until then.'
    case 'succeeded':
    case 'failed':
    case 'cancelled':
      return 'It has ended: the message wakes it. A new execution begins, with what was said so far as its context.'
  }
}

export const MODE_WORDS: Record<RunMode, string> = {
  normal: 'Normal',
  plan: 'Plan first',
  orchestrate: 'Orchestrate',
}

/** What the agent is asked to do in a mode. */
export const MODE_SAYS: Record<RunMode, string> = {
  normal: 'It works at once, and may propose a plan of its own accord.',
  plan: 'It plans, and proposes agents where they help. Nothing starts before you approve.',
  orchestrate: 'It breaks the task down for agents. Nothing starts before you approve.',
}

/** What becomes of what a person says to this run. */
export function followUpWords(run: Run): string {
  if (run.open_plan !== undefined) return `It asks for changes to version ${run.open_plan} of the plan.`
  if (run.state === 'QUEUED' && run.executions === 0) return 'It has not begun: this is added to its prompt.'
  return deliveryWords(run)
}

/** What became of a version of a plan. */
export function planStateWords({ state, decided_by }: Pick<Plan, 'state' | 'decided_by'>): string {
  const by = decided_by?.display_name ? ` by ${decided_by.display_name}` : ''
  switch (state) {
    case 'proposed':
      return 'waits for an answer'
    case 'approved':
      return `approved${by}`
    case 'changes_requested':
      return `changes asked for${by}`
    case 'rejected':
      return `rejected${by}`
    case 'superseded':
      return 'replaced by a newer one'
  }
}

export const dollarWords = (dollars: number): string => `$${dollars.toFixed(dollars < 1 ? 4 : 2)}`
