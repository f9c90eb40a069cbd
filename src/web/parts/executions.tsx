/** The executions of a run: each go at it, what began it, where, how long and how it ended. */
import { useQuery } from '@tanstack/react-query'
import type { Execution } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import { CAUSE_WORDS, executionStatus, executionWord } from '../words.ts'
import { Length, When } from './clock.tsx'
import { sentenceOf, Waiting } from './faces.tsx'
import { StatusText } from './status.tsx'

export function Executions({ run_id }: { run_id: string }) {
  const { queries } = useAsking()
  const executions = useQuery(queries.executions(run_id))
  // On a narrow page what stands around already says all of a single one.
  const hidden = executions.data?.length === 1
  return (
    <section aria-labelledby="executions" className={`mt-4 min-w-0 ${hidden ? 'max-lg:hidden' : ''}`}>
      <h2 id="executions" className="mb-1 text-sm font-semibold">
        Executions
      </h2>
      {executions.isPending ? (
        <Waiting>Loading executions…</Waiting>
      ) : executions.data === undefined ? (
        <p role="alert" className="text-sm">
          <span className="text-failed">{sentenceOf(executions.error)}</span>{' '}
          <button type="button" className="link min-h-6" onClick={() => void executions.refetch()}>
            Try again
          </button>
        </p>
      ) : executions.data.length === 0 ? (
        <p className="text-sm text-soft">None yet: no worker has been given this run.</p>
      ) : (
        <ol className="divide-y divide-line rounded-xl border border-line">
          {[...executions.data]
            .sort((a, b) => b.number - a.number)
            .map((execution) => (
              <ExecutionRow key={execution.execution_id} execution={execution} />
            ))}
        </ol>
      )}
    </section>
  )
}

function ExecutionRow({ execution }: { execution: Execution }) {
  const { number, cause, worker_host, started_at, ended_at, failure, offered_at } = execution
  return (
    <li className="px-4 py-2 text-sm" data-execution={number}>
      <div className="flex items-center gap-2">
        <span className="text-soft tabular-nums">
          <span className="sr-only">Execution </span>
          <span aria-hidden>#</span>
          {number}
        </span>
        <StatusText status={executionStatus(execution)}>{executionWord(execution)}</StatusText>
        {started_at && (
          <span className="ml-auto">
            <span className="sr-only">took </span>
            <Length from={started_at} to={ended_at} />
          </span>
        )}
      </div>
      <p className="mt-0.5 text-soft wrap-anywhere">
        {CAUSE_WORDS[cause]} · <When at={started_at ?? offered_at} />
        {worker_host && ` · ${worker_host}`}
      </p>
      {failure && (
        <p className="mt-1 line-clamp-2 whitespace-pre-wrap text-failed wrap-anywhere" title={failure.message}>
          {failure.message}
        </p>
      )}
    </li>
  )
}
