/** The tasks of a batch, however many: only the rows near the eye are mounted. */
import { Link } from '@tanstack/react-router'
import { useVirtualizer } from '@tanstack/react-virtual'
import { useMemo, useRef } from 'react'
import type { Batch, BatchTask, TaskState } from '../../contract/index.ts'
import { harnessWord } from '../words.ts'
import { TASK_STATUS, TASK_WORDS } from './batch-state.tsx'
import { Length, When } from './clock.tsx'
import { StatusText } from './status.tsx'

/** Of every row, in pixels. */
const ROW_PX = 76

type Props = { batch: Batch; tasks: BatchTask[]; state: TaskState | undefined }

export function BatchTasks({ batch, tasks, state }: Props) {
  const scroller = useRef<HTMLElement>(null)
  const shown = useMemo(
    () => (state === undefined ? tasks : tasks.filter((task) => task.state === state)),
    [tasks, state],
  )
  const virtualizer = useVirtualizer({
    count: shown.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_PX,
    getItemKey: (at) => shown[at]?.run_id ?? at,
    overscan: 8,
  })
  if (shown.length === 0)
    return <p className="py-10 text-center text-soft">No task is {TASK_WORDS[state ?? 'pending'].toLowerCase()}.</p>
  return (
    <section
      ref={scroller}
      aria-label="Tasks"
      data-testid="batch-tasks"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
      tabIndex={0}
      className="max-h-[75dvh] min-h-0 overflow-y-auto rounded-xl border border-line lg:max-h-none"
    >
      <ol className="relative" style={{ height: virtualizer.getTotalSize() }}>
        {virtualizer.getVirtualItems().map((item) => {
          const task = shown[item.index]
          return (
            task && (
              <li
                key={item.key}
                data-task={task.number}
                aria-setsize={shown.length}
                aria-posinset={item.index + 1}
                className={`absolute top-0 left-0 w-full ${item.index > 0 ? 'border-t border-line' : ''}`}
                style={{ height: ROW_PX, transform: `translateY(${item.start}px)` }}
              >
                <TaskRow task={task} batch={batch} />
              </li>
            )
          )
        })}
      </ol>
    </section>
  )
}

function TaskRow({ task, batch }: { task: BatchTask; batch: Batch }) {
  return (
    <div className="grid h-full grid-cols-[minmax(0,1fr)_7rem] content-center items-center gap-x-4 px-3 hover:bg-raised sm:grid-cols-[minmax(0,1fr)_8.5rem_7rem]">
      <div className="min-w-0">
        <span className="flex min-w-0 items-baseline gap-2">
          <span className="shrink-0 text-sm text-soft tabular-nums">{task.number}</span>
          <Link
            to="/runs/$runId"
            params={{ runId: task.run_id }}
            title={task.title}
            className="min-w-0 truncate py-0.5 font-medium hover:underline"
          >
            {task.title}
          </Link>
          {task.name !== task.title && (
            <span className="hidden max-w-40 shrink-0 truncate text-sm text-soft sm:inline">{task.name}</span>
          )}
        </span>
        <LastWords task={task} batch={batch} />
      </div>
      <div className="flex flex-col text-sm">
        <StatusText status={TASK_STATUS[task.state]}>{TASK_WORDS[task.state]}</StatusText>
        <Tries task={task} />
      </div>
      <div className="text-right text-sm text-soft max-sm:hidden">
        <span className="block truncate">{harnessWord(task.harness)}</span>
        {task.started_at !== null && (task.ended_at !== null || task.state === 'running') && (
          <Length from={task.started_at} to={task.ended_at} />
        )}
      </div>
    </div>
  )
}

/** What it said last, why it failed, or what it waits for. */
function LastWords({ task, batch }: { task: BatchTask; batch: Batch }) {
  if (task.error !== null)
    return (
      <p className="line-clamp-2 text-sm text-failed wrap-anywhere" title={task.error}>
        {task.error}
      </p>
    )
  const words =
    task.last_words ??
    (task.state !== 'pending'
      ? task.started_at === null
        ? 'Never began.'
        : 'Has said nothing.'
      : task.depends_on.length > 0
        ? `Waits for ${task.depends_on.join(', ')}.`
        : batch.state === 'paused'
          ? 'The batch is paused.'
          : 'Waits for its turn.')
  return (
    <p className="line-clamp-2 text-sm text-soft wrap-anywhere" title={words}>
      {words}
    </p>
  )
}

function Tries({ task }: { task: BatchTask }) {
  if (task.next_try_at !== null)
    return (
      <span className="text-soft">
        {task.tries} of {task.max_tries} tries; next{' '}
        {Date.parse(task.next_try_at) <= Date.now() ? 'when there is room' : <When at={task.next_try_at} />}
      </span>
    )
  return task.tries > 1 ? (
    <span className="text-soft">
      {task.tries} of {task.max_tries} tries
    </span>
  ) : null
}
