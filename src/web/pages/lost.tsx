/** Pages for what went wrong with the page itself. */
import { type ErrorComponentProps, Link } from '@tanstack/react-router'
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
