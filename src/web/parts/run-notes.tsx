import { CircleAlert, CirclePause, Hourglass } from 'lucide-react'
import type { Run } from '../../contract/index.ts'
import { absoluteWords } from '../time.ts'
import { adviceFor, runStatus, statusOf, waitingWords } from '../words.ts'
import { When } from './clock.tsx'

export function FailureBanner({ run }: { run: Run }) {
  if (statusOf(run.state) !== 'failed') return null
  const { message, error_code, retryable } = run.status_message ?? {}
  return (
    <section
      aria-label="Why it failed"
      className="flex shrink-0 items-start gap-2 rounded-xl border border-failed bg-failed-wash px-4 py-3"
    >
      <CircleAlert aria-hidden className="mt-1 size-4 shrink-0 text-failed" />
      <div className="min-w-0">
        <p
          // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
          tabIndex={0}
          className="max-h-40 overflow-y-auto font-medium whitespace-pre-wrap wrap-anywhere"
        >
          {message ?? 'The run failed without a message.'}
        </p>
        <p className="mt-1 text-sm">{adviceFor(error_code, retryable)}</p>
        {error_code && (
          <p className="mt-1 text-sm text-soft">
            Code: <code className="font-mono">{error_code}</code>
          </p>
        )}
      </div>
    </section>
  )
}

/** A run whose turn has ended and that goes on when something comes. */
export function ListeningBanner({ run }: { run: Run }) {
  if (runStatus(run) !== 'waiting' || run.waiting_until === undefined) return null
  return (
    <p className="mb-2 flex shrink-0 items-start gap-2 rounded-xl border border-line bg-raised px-4 py-3">
      <CirclePause aria-hidden className="mt-1 size-4 shrink-0 text-queued" />
      <span>
        Waiting for its agents or for messages until{' '}
        <time dateTime={run.waiting_until}>{absoluteWords(Date.parse(run.waiting_until))}</time>. It goes on with the
        first that comes, and takes up no slot until then.
      </span>
    </p>
  )
}

export function WaitingBanner({ run }: { run: Run }) {
  const words = waitingWords(run)
  if (words === undefined) return null
  return (
    <p className="flex shrink-0 items-start gap-2 rounded-xl border border-line bg-raised px-4 py-3">
      <Hourglass aria-hidden className="mt-1 size-4 shrink-0 text-queued" />
      <span>
        {words}
        {run.not_before && (
          <>
            {' '}
            Next try: <When at={run.not_before} />.
          </>
        )}
      </span>
    </p>
  )
}
