/** Signing in: with an API key, or by itself with the one-time code that `baton open` puts behind the `#`. */
import { useQueryClient } from '@tanstack/react-query'
import { getRouteApi, useRouter } from '@tanstack/react-router'
import { CircleAlert } from 'lucide-react'
import { type SubmitEvent, useEffect, useRef, useState } from 'react'
import { useAsking } from '../data/context.tsx'
import { isSignedOut, keys } from '../data/queries.ts'
import { sentenceOf, Waiting } from '../parts/faces.tsx'
import { ThemeButton } from '../parts/theme.tsx'
import { useTitle } from '../parts/title.ts'

type Credential = { api_key: string } | { code: string }

const route = getRouteApi('/login')

export function Login() {
  useTitle('Sign in')
  const { client } = useAsking()
  const held = useQueryClient()
  const router = useRouter()
  const { next } = route.useSearch()
  const [code] = useState(codeOfAddress)
  const [busy, setBusy] = useState(code !== undefined)
  const [refusal, setRefusal] = useState<string>()
  const tried = useRef(false)

  const signIn = async (credential: Credential) => {
    setBusy(true)
    setRefusal(undefined)
    try {
      const who = await client.access.signIn({ body: credential })
      held.clear()
      held.setQueryData(keys.whoami, who)
      router.history.replace(next ?? '/runs')
    } catch (error) {
      setBusy(false)
      setRefusal(refusalWords(error, credential))
    }
  }

  useEffect(() => {
    if (code === undefined || tried.current) return
    tried.current = true
    // The code must not stay in the address, the history or what a person copies.
    history.replaceState(history.state, '', location.pathname + location.search)
    void signIn({ code })
  })

  return (
    <main className="mx-auto flex min-h-dvh max-w-sm flex-col justify-center px-4 py-10">
      <div className="mb-6 flex items-center gap-2">
        <img src="/favicon.svg" alt="" className="size-8" />
        <h1 className="text-2xl font-bold tracking-tight">Sign in to Baton</h1>
        <div className="ml-auto">
          <ThemeButton />
        </div>
      </div>
      {busy && code !== undefined && tried.current && !refusal ? (
        <Waiting>Signing in…</Waiting>
      ) : (
        <KeyForm busy={busy} refusal={refusal} onKey={(api_key) => void signIn({ api_key })} />
      )}
    </main>
  )
}

function KeyForm({
  busy,
  refusal,
  onKey,
}: {
  busy: boolean
  refusal: string | undefined
  onKey: (api_key: string) => void
}) {
  const [key, setKey] = useState('')
  const [missing, setMissing] = useState(false)
  const field = useRef<HTMLInputElement>(null)
  const wrong = missing ? 'Paste an API key first.' : refusal
  useEffect(() => {
    if (wrong) field.current?.focus()
  }, [wrong])
  const submit = (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault()
    setMissing(key.trim() === '')
    if (key.trim() !== '') onKey(key.trim())
  }
  return (
    <form onSubmit={submit} noValidate className="flex flex-col gap-2">
      <label htmlFor="api-key" className="font-medium">
        API key
      </label>
      <input
        ref={field}
        id="api-key"
        type="password"
        autoComplete="current-password"
        spellCheck={false}
        className="field font-mono"
        placeholder="wk-1.…"
        value={key}
        onChange={(event) => setKey(event.target.value)}
        aria-invalid={wrong ? true : undefined}
        aria-describedby="key-hint key-refusal"
      />
      <p id="key-refusal" role="alert" className="empty:hidden">
        {wrong && (
          <span className="flex items-start gap-1.5 text-failed">
            <CircleAlert aria-hidden className="mt-1 size-4 shrink-0" />
            {wrong}
          </span>
        )}
      </p>
      <button type="submit" className="button button-first mt-2" disabled={busy}>
        {busy ? 'Signing in…' : 'Sign in'}
      </button>
      <p id="key-hint" className="mt-2 text-sm text-soft">
        The server printed a key when it first started. On its own machine,{' '}
        <code className="font-mono">baton open</code> signs you in without one.
      </p>
    </form>
  )
}

function refusalWords(error: unknown, credential: Credential): string {
  if (!isSignedOut(error)) return sentenceOf(error)
  return 'code' in credential
    ? 'This sign-in link has been used or is older than five minutes. Get a new one with baton open, or paste an API key.'
    : 'The server does not know this key. Check that it is whole, that it belongs to this server and that it was not revoked.'
}

function codeOfAddress(): string | undefined {
  return new URLSearchParams(location.hash.slice(1)).get('code') ?? undefined
}
