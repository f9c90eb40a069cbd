import { useQuery } from '@tanstack/react-query'
import { ShieldAlert } from 'lucide-react'
import type { ReactNode } from 'react'
import { harnessOf, type Run } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import { isTimed, lengthWords } from '../time.ts'
import { dollarWords, harnessWord, sizeWords, sourceWord } from '../words.ts'
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
    <dl className="flex flex-wrap gap-x-6 gap-y-2 border-y border-line py-2.5 text-sm lg:flex-col lg:rounded-xl lg:border lg:px-4">
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
      {isTimed(run) && (
        <Fact name="Duration">
          <Worked run={run} />
        </Fact>
      )}
      {Boolean(usage?.total_tokens) && (
        <>
          <Fact name="Input tokens">{count(usage?.input_tokens)}</Fact>
          <Fact name="Output tokens">{count(usage?.output_tokens)}</Fact>
          {Boolean(usage?.cache_read_tokens) && <Fact name="Cache read">{count(usage?.cache_read_tokens)}</Fact>}
          {Boolean(usage?.cache_write_tokens) && <Fact name="Cache written">{count(usage?.cache_write_tokens)}</Fact>}
        </>
      )}
      {usage?.inference_cost_usd !== undefined && <Fact name="Cost">{dollarWords(usage.inference_cost_usd)}</Fact>}
      {usage?.cpu_seconds !== undefined && <Fact name="Processor time">{lengthWords(usage.cpu_seconds * 1000)}</Fact>}
      {usage?.peak_memory_bytes !== undefined && <Fact name="Peak memory">{sizeWords(usage.peak_memory_bytes)}</Fact>}
    </dl>
  )
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div className="min-w-0 max-w-full lg:flex lg:justify-between lg:gap-4">
      <dt className="shrink-0 text-soft">{name}</dt>
      <dd className="min-w-0 font-medium tabular-nums wrap-anywhere lg:text-right">{children}</dd>
    </div>
  )
}

function WorkerName({ host }: { host: string }) {
  const { queries } = useAsking()
  const workers = useQuery(queries.workers())
  const backend = workers.data?.find((worker) => worker.worker_host === host)?.backend
  return (
    <span className="inline-flex flex-wrap items-center gap-x-1.5 lg:justify-end">
      {host}
      {backend !== undefined && OPEN_BACKENDS.has(backend) && (
        <span
          className="inline-flex items-center gap-1 rounded-full bg-needs-wash px-2 text-xs leading-5 text-needs"
          title="Runs on this worker are plain processes of its machine; nothing walls them off."
        >
          <ShieldAlert aria-hidden className="size-3.5" />
          not isolated
        </span>
      )}
    </span>
  )
}
