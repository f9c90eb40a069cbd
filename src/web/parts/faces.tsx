/** The faces of a page that has nothing to show yet, nothing to show, or could not be read. */
import { CircleAlert, LoaderCircle } from 'lucide-react'
import { type ReactNode, useEffect, useState } from 'react'
import { Fault } from '../../contract/index.ts'
import { Unreachable } from '../../sdk/client.ts'

/** Nothing at first, so that a quick answer does not flicker. */
const PATIENCE_MS = 200

export function Waiting({ children }: { children: ReactNode }) {
  const [seen, setSeen] = useState(false)
  useEffect(() => {
    const timer = setTimeout(() => setSeen(true), PATIENCE_MS)
    return () => clearTimeout(timer)
  }, [])
  return (
    <div role="status" className="flex min-h-40 items-center justify-center gap-2 p-6 text-soft">
      {seen && <LoaderCircle aria-hidden className="size-4 animate-spin" />}
      {seen && children}
    </div>
  )
}

export function Empty({ title, children, action }: { title: string; children: ReactNode; action?: ReactNode }) {
  return (
    <div className="mx-auto flex max-w-md flex-col items-center gap-2 px-4 py-16 text-center">
      <h2 className="text-lg font-semibold">{title}</h2>
      <p className="text-soft">{children}</p>
      {action && <div className="mt-3">{action}</div>}
    </div>
  )
}

export function Refused({
  title,
  error,
  onRetry,
}: {
  title: string
  error: unknown
  onRetry?: (() => void) | undefined
}) {
  return (
    <div role="alert" className="mx-auto flex max-w-xl flex-col items-center gap-2 px-4 py-16 text-center">
      <CircleAlert aria-hidden className="size-6 text-failed" />
      <h2 className="text-lg font-semibold">{title}</h2>
      <p className="text-soft wrap-anywhere">{sentenceOf(error)}</p>
      {traceOf(error) && (
        <p className="text-sm text-soft">
          Trace id: <code className="font-mono wrap-anywhere">{traceOf(error)}</code>
        </p>
      )}
      {onRetry && (
        <button type="button" className="button mt-3" onClick={onRetry}>
          Try again
        </button>
      )}
    </div>
  )
}

/** The sentence to show for whatever was thrown. */
export function sentenceOf(error: unknown): string {
  if (error instanceof Unreachable)
    return 'The server does not answer. Check that it runs and that you are online; this page goes on by itself when it is back.'
  if (error instanceof Fault) {
    // Baton's own answers carry a trace id; a proxy's do not.
    const passing = error.status >= 500 && error.details.trace_id === undefined
    if (passing)
      return `${error.message} It may be starting, or a proxy before it may be in trouble. Try again in a while.`
    const details = error.details.errors
      ?.filter(({ detail }) => !error.message.includes(detail))
      .map(({ pointer, detail }) => `${pointer}: ${detail}`)
    return [error.message, ...(details ?? [])].join(' ')
  }
  if (error instanceof Error && error.name === 'ZodError')
    return 'The server answered something that this page does not understand. Reload it: it may be older than the server.'
  return error instanceof Error ? error.message : 'Something went wrong.'
}

const traceOf = (error: unknown): string | undefined => (error instanceof Fault ? error.details.trace_id : undefined)
