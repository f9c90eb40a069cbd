import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { Pause, Play, RotateCcw, Square } from 'lucide-react'
import { type SubmitEvent, useState } from 'react'
import type { Batch } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import { useMay } from '../data/may.ts'
import { keys } from '../data/queries.ts'
import { useAnnounce } from './announce.tsx'
import { Confirm } from './confirm.tsx'
import { sentenceOf } from './faces.tsx'

type Act = 'pause' | 'resume' | 'retry' | 'cancel' | { concurrency: number }

const SAID = {
  pause: 'The batch is paused. Tasks at work go on.',
  resume: 'The batch goes on.',
  retry: 'What failed is tried again.',
  cancel: 'The batch was cancelled.',
}

/** Nothing for who may only look. */
export function BatchActions({ batch }: { batch: Batch }) {
  return useMay() ? <Actions batch={batch} /> : null
}

function Actions({ batch }: { batch: Batch }) {
  const { client, queries } = useAsking()
  const tasks = useQuery(queries.tasks(batch.batch_id))
  const held = useQueryClient()
  const announce = useAnnounce()
  const [asking, setAsking] = useState(false)
  const { batch_id } = batch
  const act = useMutation({
    mutationFn: (what: Act): Promise<Batch> => {
      const params = { batch_id }
      if (typeof what === 'object') return client.batches.update({ params, body: what })
      if (what === 'retry') return client.batches.retry({ params, body: {} })
      return client.batches[what]({ params })
    },
    onSuccess: (now, what) => {
      held.setQueryData(keys.batch(batch_id), now)
      void held.invalidateQueries({ queryKey: keys.tasks(batch_id) })
      announce(typeof what === 'object' ? `Now ${what.concurrency} at a time.` : SAID[what])
    },
  })
  const busy = act.isPending
  const { pending, running } = batch.counts
  const retried = tasks.data?.filter((task) => task.next_try_at !== null).length ?? 0
  const left = pending + running + retried
  const open = batch.state === 'running' || batch.state === 'paused'
  const again = batch.counts.failed + batch.counts.cancelled
  return (
    <div className="flex flex-col items-end gap-1">
      <div className="flex flex-wrap items-end justify-end gap-2">
        {open && (
          <Concurrency
            key={batch.concurrency}
            now={batch.concurrency}
            busy={busy}
            onChange={(concurrency) => act.mutate({ concurrency })}
          />
        )}
        {batch.state === 'running' && (
          <button type="button" className="button" disabled={busy} onClick={() => act.mutate('pause')}>
            <Pause aria-hidden className="size-4" />
            Pause
          </button>
        )}
        {batch.state === 'paused' && (
          <button type="button" className="button button-first" disabled={busy} onClick={() => act.mutate('resume')}>
            <Play aria-hidden className="size-4" />
            Resume
          </button>
        )}
        {again > 0 && (
          <button type="button" className="button" disabled={busy} onClick={() => act.mutate('retry')}>
            <RotateCcw aria-hidden className="size-4" />
            {batch.counts.cancelled > 0 ? `Retry ${again.toLocaleString()}` : `Retry ${again.toLocaleString()} failed`}
          </button>
        )}
        {open && (
          <button type="button" className="button button-danger" disabled={busy} onClick={() => setAsking(true)}>
            <Square aria-hidden className="size-4" />
            Cancel
          </button>
        )}
      </div>
      {act.error && (
        <p role="alert" className="max-w-sm text-right text-sm text-failed">
          {sentenceOf(act.error)}
        </p>
      )}
      <Confirm
        open={asking && open}
        title="Cancel this batch?"
        yes={`Cancel ${left === 1 ? '1 task' : `${left.toLocaleString()} tasks`}`}
        no="Keep it running"
        onClose={() => setAsking(false)}
        onYes={() => {
          setAsking(false)
          act.mutate('cancel')
        }}
      >
        {running.toLocaleString()} at work {running === 1 ? 'is' : 'are'} stopped, {pending.toLocaleString()}{' '}
        {pending === 1 ? 'does' : 'do'} not begin
        {retried > 0 && `, ${retried.toLocaleString()} ${retried === 1 ? 'is' : 'are'} not tried again`}. What has been
        completed stays.
      </Confirm>
    </div>
  )
}

type ConcurrencyProps = { now: number; busy: boolean; onChange: (concurrency: number) => void }

function Concurrency({ now, busy, onChange }: ConcurrencyProps) {
  const [text, setText] = useState(String(now))
  const wanted = Number(text)
  const right = /^\d+$/.test(text) && wanted >= 1 && wanted <= 1000
  const submit = (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault()
    if (right && wanted !== now) onChange(wanted)
  }
  return (
    <form onSubmit={submit} noValidate className="flex items-center gap-2">
      <label htmlFor="batch-concurrency" className="text-sm text-soft">
        At a time
      </label>
      <input
        id="batch-concurrency"
        inputMode="numeric"
        autoComplete="off"
        className="field w-16! text-right tabular-nums"
        value={text}
        aria-invalid={right ? undefined : true}
        title="From 1 to 1000"
        onChange={(event) => setText(event.target.value.trim())}
      />
      {text !== String(now) && (
        <button type="submit" className="button" disabled={busy || !right}>
          Set
        </button>
      )}
    </form>
  )
}
