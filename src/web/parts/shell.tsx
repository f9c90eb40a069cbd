/** What stands around every page of a signed-in person: the way to the pages, the line to the server, who it is. */
import { useQuery, useQueryClient } from '@tanstack/react-query'
import { Link, Outlet, useNavigate } from '@tanstack/react-router'
import { Hand, LogOut, Unplug } from 'lucide-react'
import { useEffect, useState } from 'react'
import { StreamProvider, useAsking, useConnection } from '../data/context.tsx'
import { useMay } from '../data/may.ts'
import { isSignedOut } from '../data/queries.ts'
import { openTabStream, type TabStream } from '../data/stream.ts'
import { Announcer } from './announce.tsx'
import { Clock } from './clock.tsx'
import { Refused, Waiting } from './faces.tsx'
import { NewMenu } from './new-menu.tsx'
import { ThemeButton } from './theme.tsx'
import { ViewOnlyChip } from './view-only.tsx'

export function Shell() {
  const { queries } = useAsking()
  const who = useQuery(queries.whoami())
  const signedOut = isSignedOut(who.error)
  const navigate = useNavigate()
  useEffect(() => {
    if (signedOut) void navigate({ to: '/login', search: { next: location.pathname + location.search }, replace: true })
  }, [signedOut, navigate])
  if (who.isPending || signedOut)
    return (
      <main>
        <Waiting>Loading…</Waiting>
      </main>
    )
  if (who.isError)
    return (
      <main>
        <Refused title="This page could not be loaded" error={who.error} onRetry={() => void who.refetch()} />
      </main>
    )
  return <SignedIn name={who.data.user?.display_name} />
}

function SignedIn({ name }: { name: string | undefined }) {
  const { client } = useAsking()
  const held = useQueryClient()
  const [stream, setStream] = useState<TabStream | null>(null)
  useEffect(() => {
    const opened = openTabStream(client, held)
    setStream(opened)
    return () => opened.close()
  }, [client, held])
  if (!stream) return null
  return (
    <StreamProvider stream={stream}>
      <Announcer>
        <Clock>
          <a
            href="#main"
            className="button sr-only focus:not-sr-only focus:absolute focus:top-2 focus:left-2 focus:z-20"
          >
            Skip to content
          </a>
          <TopBar name={name} />
          <ConnectionNote />
          <main id="main" tabIndex={-1} className="mx-auto w-full max-w-6xl px-4 outline-none sm:px-6">
            <Outlet />
          </main>
        </Clock>
      </Announcer>
    </StreamProvider>
  )
}

const PAGE_LINK =
  'inline-flex min-h-9 items-center gap-1.5 rounded-lg px-3 font-medium text-soft hover:bg-raised aria-[current]:text-ink pointer-coarse:min-h-11'

function TopBar({ name }: { name: string | undefined }) {
  const may = useMay()
  return (
    <header className="border-b border-line bg-page">
      <div className="mx-auto flex w-full max-w-6xl flex-wrap items-center gap-x-1 px-4 sm:h-14 sm:px-6">
        <Link to="/runs" className="mr-2 inline-flex min-h-9 items-center gap-2 text-lg font-bold tracking-tight">
          <img src="/favicon.svg" alt="" className="size-6" />
          Baton
        </Link>
        <nav aria-label="Pages" className="-mx-3 flex max-sm:order-last max-sm:w-full sm:mx-0">
          <Link to="/runs" className={PAGE_LINK}>
            Runs
          </Link>
          <Link to="/batches" className={PAGE_LINK}>
            Batches
          </Link>
          <NeedsLink />
        </nav>
        <div className="ml-auto flex min-h-14 min-w-0 items-center gap-1">
          {name && (
            <span className="hidden max-w-40 truncate text-soft md:inline" title={name}>
              {name}
            </span>
          )}
          {may ? <NewMenu /> : <ViewOnlyChip />}
          <ThemeButton />
          <SignOut />
        </div>
      </div>
    </header>
  )
}

/** How many plans and runs wait for a person. */
function NeedsLink() {
  const { queries } = useAsking()
  const needs = useQuery(queries.needs())
  const count = (needs.data?.plans.length ?? 0) + (needs.data?.blocked.length ?? 0)
  return (
    <Link to="/needs-you" className={PAGE_LINK}>
      <Hand aria-hidden className={`size-4 ${count > 0 ? 'text-needs' : ''}`} />
      Needs you
      {count > 0 && (
        <span className="min-w-6 rounded-full bg-needs-wash px-1.5 text-center text-sm leading-6 text-needs tabular-nums">
          {count}
        </span>
      )}
    </Link>
  )
}

function SignOut() {
  const { client } = useAsking()
  const [failed, setFailed] = useState(false)
  const leave = async () => {
    try {
      await client.access.signOut()
      // A fresh page: nothing of the session stays in memory.
      location.assign('/login')
    } catch {
      setFailed(true)
    }
  }
  const label = failed ? 'Signing out did not work; try again' : 'Sign out'
  return (
    <button
      type="button"
      onClick={() => void leave()}
      aria-label={label}
      title={label}
      className="grid size-9 pointer-coarse:size-11 place-items-center rounded-lg hover:bg-raised"
    >
      <LogOut aria-hidden className={`size-4 ${failed ? 'text-failed' : ''}`} />
    </button>
  )
}

function ConnectionNote() {
  const connection = useConnection()
  const broken = connection === 'down' || connection === 'refused'
  return (
    <div role="status" data-connection={connection}>
      {broken && (
        <p className="flex items-center justify-center gap-2 border-b border-line bg-needs-wash px-4 py-1.5 text-sm text-needs">
          <Unplug aria-hidden className="size-4 shrink-0" />
          {connection === 'down'
            ? 'Reconnecting… What you see may be out of date.'
            : 'Live updates have stopped. Reload the page to go on.'}
        </p>
      )}
    </div>
  )
}
