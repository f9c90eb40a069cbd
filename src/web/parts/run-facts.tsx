import { useQuery } from '@tanstack/react-query'
import { ShieldAlert } from 'lucide-react'
import type { ReactNode } from 'react'
import { harnessOf, type Run } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import { harnessWord, sourceWord } from '../words.ts'
import { When, Worked } from './clock.tsx'

/** Backends that give a run no wall of its own. */
const OPEN_BACKENDS = new Set(['process'])

const count = (value: number | undefined) => (value ?? 0).toLocaleString()

export function RunFacts({ run }: { run: Run }) {
  const config = run.agent_config
  const model = config?.model_id ?? config?.harness?.model_id
  const usage = run.request_usage
  const repositories = config?.environment?.repositories ?? []
  return (
    <dl className="mt-3 flex flex-wrap gap-x-6 gap-y-2 border-y border-line py-2.5 text-sm">
      <Fact name="Harness">{config ? harnessWord(harnessOf(config)) : 'Unknown'}</Fact>
      {model && <Fact name="Model">{model}</Fact>}
      {run.worker_host && (
        <Fact name="Worker">
          <WorkerName host={run.worker_host} />
        </Fact>
      )}
      {repositories.map((repository) => (
        <Fact key={repository.url} name="Repository">
          {repository.url}
          {repository.ref && ` at ${repository.ref}`}
        </Fact>
      ))}
      <Fact name="Source">{sourceWord(run.source)}</Fact>
      <Fact name="Created">
        <When at={run.created_at} />
      </Fact>
      {run.started_at && (
        <Fact name="Started">
          <When at={run.started_at} />
        </Fact>
      )}
      {run.started_at && (run.ended_at !== null || run.state === 'INPROGRESS' || run.state === 'BLOCKED') && (
        <Fact name="Time">
          <Worked run={run} />
        </Fact>
      )}
      {run.executions > 1 && <Fact name="Executions">{run.executions}</Fact>}
      {usage?.input_tokens !== undefined && <Fact name="Input tokens">{count(usage.input_tokens)}</Fact>}
      {usage?.output_tokens !== undefined && <Fact name="Output tokens">{count(usage.output_tokens)}</Fact>}
      {usage?.cache_read_tokens !== undefined && <Fact name="Cache read">{count(usage.cache_read_tokens)}</Fact>}
      {usage?.cache_write_tokens !== undefined && <Fact name="Cache written">{count(usage.cache_write_tokens)}</Fact>}
      {usage?.inference_cost_usd !== undefined && (
        <Fact name="Cost">${usage.inference_cost_usd.toFixed(usage.inference_cost_usd < 1 ? 4 : 2)}</Fact>
      )}
    </dl>
  )
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div className="min-w-0 max-w-full">
      <dt className="text-soft">{name}</dt>
      <dd className="font-medium tabular-nums wrap-anywhere">{children}</dd>
    </div>
  )
}

function WorkerName({ host }: { host: string }) {
  const { queries } = useAsking()
  const workers = useQuery(queries.workers())
  const backend = workers.data?.find((worker) => worker.worker_host === host)?.backend
  return (
    <>
      {host}
      {backend !== undefined && OPEN_BACKENDS.has(backend) && (
        <span
          className="ml-1.5 inline-flex items-center gap-1 rounded-full bg-needs-wash px-2 text-needs"
          title="Runs on this worker are plain processes of its machine; nothing walls them off."
        >
          <ShieldAlert aria-hidden className="size-3.5" />
          not isolated
        </span>
      )}
    </>
  )
}
