import { useMutation, useQueryClient } from '@tanstack/react-query'
import { Check, Copy, RotateCcw, Square } from 'lucide-react'
import { useState } from 'react'
import { isEnded, type Run } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import { useMay } from '../data/may.ts'
import { putRun } from '../data/runs.ts'
import { canRetry } from '../words.ts'
import { useAnnounce } from './announce.tsx'
import { Confirm } from './confirm.tsx'
import { sentenceOf } from './faces.tsx'

export function RunActions({ run }: { run: Run }) {
  const { client } = useAsking()
  const held = useQueryClient()
  const [asking, setAsking] = useState(false)
  const renew = async () => putRun(held, await client.runs.get({ params: { run_id: run.run_id } }))
  const cancel = useMutation({
    mutationFn: () => client.runs.cancel({ params: { run_id: run.run_id } }),
    onSettled: renew,
  })
  const retry = useMutation({
    mutationFn: () => client.runs.retry({ params: { run_id: run.run_id } }),
    onSettled: renew,
  })
  const refusal = cancel.error ?? retry.error
  const ended = isEnded(run.state)
  const may = useMay()
  return (
    <div className="flex flex-col items-end gap-1">
      <div className="flex flex-wrap gap-2">
        <CopyId run_id={run.run_id} />
        {may && canRetry(run) && (
          <button type="button" className="button" disabled={retry.isPending} onClick={() => retry.mutate()}>
            <RotateCcw aria-hidden className="size-4" />
            Retry
          </button>
        )}
        {may && !ended && (
          <button
            type="button"
            className="button button-danger"
            disabled={cancel.isPending || run.cancel_requested}
            onClick={() => setAsking(true)}
          >
            <Square aria-hidden className="size-4" />
            {run.cancel_requested || cancel.isPending ? 'Cancelling…' : 'Cancel'}
          </button>
        )}
      </div>
      {refusal && (
        <p role="alert" className="max-w-sm text-right text-sm text-failed">
          {sentenceOf(refusal)}
        </p>
      )}
      <Confirm
        open={asking && !ended}
        title="Cancel this run?"
        yes="Cancel the run"
        no="Keep it running"
        onClose={() => setAsking(false)}
        onYes={() => {
          setAsking(false)
          cancel.mutate()
        }}
      >
        What the agent is doing is stopped. The transcript stays
        {run.children.length > 0
          ? ', and runs that it started go on: cancel the tree under Sub-agents to stop them too'
          : ''}
        .
      </Confirm>
    </div>
  )
}

function CopyId({ run_id }: { run_id: string }) {
  const announce = useAnnounce()
  const [copied, setCopied] = useState<boolean>()
  const copy = async () => {
    const done = await navigator.clipboard.writeText(run_id).then(
      () => true,
      () => false,
    )
    setCopied(done)
    announce(done ? 'The run id was copied.' : 'The run id could not be copied.')
  }
  return (
    <button type="button" className="button" title={run_id} onClick={() => void copy()}>
      {copied ? <Check aria-hidden className="size-4" /> : <Copy aria-hidden className="size-4" />}
      {copied === false ? 'Not copied' : copied ? 'Copied' : 'Copy id'}
    </button>
  )
}
