/** States of batches and their tasks, as people see them. */
import type { Batch, TaskState } from '../../contract/index.ts'
import type { Status } from '../words.ts'
import { StatusText } from './status.tsx'

export const TASK_WORDS: Record<TaskState, string> = {
  pending: 'Pending',
  running: 'Running',
  completed: 'Completed',
  failed: 'Failed',
  cancelled: 'Cancelled',
}

export const TASK_STATUS: Record<TaskState, Status> = {
  pending: 'queued',
  running: 'working',
  completed: 'succeeded',
  failed: 'failed',
  cancelled: 'cancelled',
}

const BATCH_LOOK: Record<Batch['state'], { status: Status; word: string }> = {
  running: { status: 'working', word: 'Running' },
  paused: { status: 'waiting', word: 'Paused' },
  completed: { status: 'succeeded', word: 'Completed' },
  failed: { status: 'failed', word: 'Failed' },
  cancelled: { status: 'cancelled', word: 'Cancelled' },
}

export const batchWord = (batch: Batch): string => BATCH_LOOK[batch.state].word

export function BatchStatus({ batch }: { batch: Batch }) {
  const { status, word } = BATCH_LOOK[batch.state]
  return <StatusText status={status}>{word}</StatusText>
}

const BAR: { state: TaskState; colour: string }[] = [
  { state: 'completed', colour: 'bg-succeeded' },
  { state: 'failed', colour: 'bg-failed' },
  { state: 'running', colour: 'bg-working' },
  { state: 'cancelled', colour: 'bg-edge' },
]

/** How far a batch is; the words beside it say the same. */
export function BatchBar({ batch }: { batch: Batch }) {
  const done = batch.counts.completed + batch.counts.failed + batch.counts.cancelled
  return (
    <div
      role="progressbar"
      aria-label="Tasks that have ended"
      aria-valuemin={0}
      aria-valuemax={batch.tasks}
      aria-valuenow={done}
      className="flex h-2 w-full overflow-hidden rounded-full bg-line"
    >
      {BAR.map(({ state, colour }) => (
        <span key={state} className={colour} style={{ width: `${(100 * batch.counts[state]) / batch.tasks}%` }} />
      ))}
    </div>
  )
}

/** `3 of 20 completed · 1 failed · 4 running`. */
export function countsWords(batch: Batch): string {
  const { completed, failed, running, cancelled } = batch.counts
  const rest = [
    [failed, 'failed'],
    [running, 'running'],
    [cancelled, 'cancelled'],
  ] as const
  return [
    `${completed.toLocaleString()} of ${batch.tasks.toLocaleString()} completed`,
    ...rest.flatMap(([count, word]) => (count > 0 ? [`${count.toLocaleString()} ${word}`] : [])),
  ].join(' · ')
}
