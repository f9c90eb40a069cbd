/** Pages for what went wrong with the page itself. */
import { type ErrorComponentProps, Link, useRouter } from '@tanstack/react-router'
import { useEffect, useRef } from 'react'
import { Unreachable } from '../../sdk/client.ts'
import { useConnection } from '../data/context.tsx'
import { Refused } from '../parts/faces.tsx'
import { useTitle } from '../parts/title.ts'

export function NotFound() {
  useTitle('Not found')
  return (
    <main className="mx-auto flex max-w-md flex-col items-center gap-2 px-4 py-24 text-center">
      <h1 className="text-xl font-semibold">There is no page here</h1>
      <p className="text-soft">The address may be mistyped, or the page has moved.</p>
      <Link to="/runs" className="button button-first mt-3">
        Go to the runs
      </Link>
    </main>
  )
}

export function Crashed({ error }: ErrorComponentProps) {
  return error instanceof Unreachable ? <Unloaded error={error} /> : <Broken error={error} />
}

/** A page whose own file could not be had. It is read again as soon as the line to the server is back. */
function Unloaded({ error }: { error: Unreachable }) {
  useTitle('Not loaded')
  const router = useRouter()
  const connection = useConnection()
  const before = useRef(connection)
  useEffect(() => {
    if (connection === 'open' && before.current !== 'open') void router.invalidate()
    before.current = connection
  }, [connection, router])
  return <Refused title="This page could not be loaded" error={error} onRetry={() => void router.invalidate()} />
}

function Broken({ error }: { error: unknown }) {
  useTitle('The page broke')
  return (
    <div role="alert" className="mx-auto flex max-w-xl flex-col items-center gap-2 px-4 py-24 text-center">
      <h1 className="text-xl font-semibold">The page broke</h1>
      <p className="text-soft">
        This is a fault of the page; your runs go on without it. Reload it. If it breaks again, report what stands here.
      </p>
      <code className="mt-2 max-w-full rounded-lg bg-sunken p-3 text-left font-mono text-sm wrap-anywhere">
        {error instanceof Error ? error.message : String(error)}
      </code>
      <button type="button" className="button button-first mt-3" onClick={() => location.reload()}>
        Reload
      </button>
    </div>
  )
}
