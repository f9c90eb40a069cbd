/** Runs as a person reads them. */
import { isEnded, type Notice, type RequestUsage, type Run, type RunState } from '../contract/index.ts'
import { paint } from './output.ts'
import { ago, bytes, duration, oneLine, plural } from './text.ts'

export function paintState(state: RunState): string {
  switch (state) {
    case 'SUCCEEDED':
      return paint.green(state)
    case 'FAILED':
    case 'ERROR':
      return paint.red(state)
    case 'BLOCKED':
    case 'CANCELLED':
      return paint.yellow(state)
    case 'INPROGRESS':
      return paint.cyan(state)
    case 'QUEUED':
    case 'PENDING':
    case 'CLAIMED':
      return paint.dim(state)
  }
}

const WAITS = {
  capacity: 'waits until fewer runs are going on',
  worker: 'waits for a worker',
  retry: 'will be tried again',
  parent: 'waits for its parent to start it beside itself',
  tasks: 'waits for other tasks of its batch',
  lane: 'waits until fewer of its siblings are going on',
  release: 'waits until its tree is released: baton run release RUN',
}

/** What a state alone does not say: why a run waits, or why it ended so. */
export function reasonOf(run: Run): string | undefined {
  if (run.cancel_requested && !isEnded(run.state)) return 'is being cancelled'
  if (run.open_plan !== undefined) return `version ${run.open_plan} of its plan waits: baton run plan ${run.run_id}`
  if (run.state === 'QUEUED' && run.waiting_for) return WAITS[run.waiting_for]
  return run.status_message?.message
}

const stopOf = ({ run_id, tree_stopped }: Run): string | undefined =>
  tree_stopped && `was stopped: ${oneLine(tree_stopped.message)} Let it go on with: baton run release ${run_id}`

export function titleOf(run: Run): string {
  return oneLine(run.title || run.prompt.split('\n')[0] || 'Untitled')
}

export const runRow = (run: Run, now: number): string[] => [
  run.run_id,
  paintState(run.state),
  ago(run.created_at, now),
  harnessWord(run),
  `${markOf(run)}${titleOf(run)}`,
]

const harnessWord = (run: Run): string =>
  run.is_batch ? paint.bold('batch') : oneLine(run.agent_config.harness?.type ?? 'baton')

/** What is to be seen of it before its title. */
function markOf({ mode, open_plan }: Run): string {
  if (open_plan !== undefined) return paint.yellow(`plan ${open_plan} waits `)
  return mode === 'normal' ? '' : paint.dim(`${mode} `)
}

/** All that matters of one run. */
export function runLines(run: Run, web: string): string[] {
  const rows: [string, string | undefined][] = [
    ['Run', run.run_id],
    ['State', paintState(run.state)],
    ['Why', reasonOf(run)],
    ['Tree', stopOf(run)],
    ['Batch', run.is_batch ? `${plural(run.children.length, 'task')}: baton batch get ${run.run_id}` : undefined],
    ['Mode', run.mode === 'normal' ? undefined : run.mode],
    ['Harness', run.is_batch ? undefined : (run.agent_config.harness?.type ?? 'baton')],
    ['Model', run.agent_config.model_id ?? run.agent_config.harness?.model_id ?? undefined],
    ['Worker', run.worker_host],
    ['Created', `${run.created_at} by ${run.creator.display_name ?? run.creator.uid} (${run.source})`],
    ['Took', tookOf(run)],
    ['Executions', run.executions > 1 ? String(run.executions) : undefined],
    ['Used', usageOf(run)],
    ['Parent', run.parent_run_id],
    ['Children', run.children.length > 0 && !run.is_batch ? run.children.join(', ') : undefined],
    ['Page', web],
  ]
  return [
    paint.bold(titleOf(run)),
    ...rows.filter((row) => row[1] !== undefined).map(([name, value]) => `${paint.dim(name.padEnd(11))}${value}`),
    ...run.notices.flatMap((notice) => ['', ...noticeLines(notice)]),
  ]
}

/** What the agent told the person behind it. */
export const noticeLines = ({ message, created_at }: Notice): string[] => [
  `${paint.yellow('Notice')} ${paint.dim(created_at)}`,
  ...message
    .trimEnd()
    .split('\n')
    .map((line) => `  ${line}`),
]

export function tookOf(run: Run): string | undefined {
  if (run.started_at === null) return undefined
  const end = run.ended_at === null ? Date.now() : Date.parse(run.ended_at)
  return duration(end - Date.parse(run.started_at))
}

export const usageOf = (run: Run): string | undefined =>
  run.request_usage === undefined ? undefined : usageWords(run.request_usage)

export function usageWords(used: RequestUsage): string | undefined {
  const parts = [
    used.total_tokens ? `${used.total_tokens} tokens` : '',
    used.inference_cost_usd === undefined ? '' : `$${used.inference_cost_usd.toFixed(4)}`,
    used.cpu_seconds && used.cpu_seconds >= 0.05 ? `${used.cpu_seconds.toFixed(1)} s CPU` : '',
    used.peak_memory_bytes ? `${bytes(used.peak_memory_bytes)} memory` : '',
  ].filter((part) => part !== '')
  return parts.length > 0 ? parts.join(', ') : undefined
}
