/**
 * Signing in: with an API key, or by itself with the one-time code that `baton open` puts behind the `#`. With the code
 * of an invitation there, joining its team.
 */
import { useQueryClient } from '@tanstack/react-query'
import { getRouteApi, useRouter } from '@tanstack/react-router'
import { CircleAlert } from 'lucide-react'
import { type ReactNode, type SubmitEvent, useEffect, useRef, useState } from 'react'
import type { WhoAmI } from '../../contract/index.ts'
import type { Client } from '../../sdk/client.ts'
import { useAsking } from '../data/context.tsx'
import { isSignedOut, keys } from '../data/queries.ts'
import { sentenceOf, Waiting } from '../parts/faces.tsx'
import { ThemeButton } from '../parts/theme.tsx'
import { useTitle } from '../parts/title.ts'

type Credential = { api_key: string } | { code: string } | { invite: string; display_name: string }

const route = getRouteApi('/login')

export function Login() {
  const [links, setLinks] = useState(0)
  // A link opened where this page already stands changes only what is behind the `#`.
  useEffect(() => {
    const again = () => {
      if (location.hash.length > 1) setLinks((held) => held + 1)
    }
    addEventListener('hashchange', again)
    return () => removeEventListener('hashchange', again)
  }, [])
  return <SigningIn key={links} />
}

function SigningIn() {
  useTitle('Sign in')
  const { client } = useAsking()
  const held = useQueryClient()
  const router = useRouter()
  const { next } = route.useSearch()
  const [code] = useState(() => behindHash('code'))
  const [invite] = useState(() => behindHash('invite'))
  const [busy, setBusy] = useState(code !== undefined)
  const [refusal, setRefusal] = useState<string>()
  const tried = useRef(false)

  const signIn = async (credential: Credential) => {
    setBusy(true)
    setRefusal(undefined)
    try {
      const who = await open(client, credential)
      held.clear()
      held.setQueryData(keys.whoami, who)
      router.history.replace(next ?? '/runs')
    } catch (error) {
      setBusy(false)
      setRefusal(refusalWords(error, credential))
    }
  }

  useEffect(() => {
    if ((code === undefined && invite === undefined) || tried.current) return
    tried.current = true
    // The code must not stay in the address, the history or what a person copies.
    history.replaceState(history.state, '', location.pathname + location.search)
    if (code !== undefined) void signIn({ code })
  })

  return (
    <main className="mx-auto flex min-h-dvh max-w-sm flex-col justify-center px-4 py-10">
      <div className="mb-6 flex items-center gap-2">
        <img src="/favicon.svg" alt="" className="size-8" />
        <h1 className="text-2xl font-bold tracking-tight">
          {invite === undefined ? 'Sign in to Baton' : 'Join a team'}
        </h1>
        <div className="ml-auto">
          <ThemeButton />
        </div>
      </div>
      {busy && code !== undefined && tried.current && !refusal ? (
        <Waiting>Signing in…</Waiting>
      ) : invite === undefined ? (
        <OneField
          {...KEY}
          busy={busy}
          refusal={refusal}
          onGiven={(api_key) => void signIn({ api_key })}
          hint={
            <>
              The server printed a key when it first started. On its own machine,{' '}
              <code className="font-mono">baton open</code> signs you in without one.
            </>
          }
        />
      ) : (
        <OneField
          {...NAME}
          busy={busy}
          refusal={refusal}
          onGiven={(display_name) => void signIn({ invite, display_name })}
          hint="You were invited to a team. If you are signed in here already, you join as who you are."
        />
      )}
    </main>
  )
}

const KEY = {
  id: 'api-key',
  label: 'API key',
  missing: 'Paste an API key first.',
  button: ['Sign in', 'Signing in…'],
  input: { type: 'password', autoComplete: 'current-password', placeholder: 'wk-1.…', className: 'field font-mono' },
} as const

const NAME = {
  id: 'display-name',
  label: 'What are you called?',
  missing: 'Say what you are called.',
  button: ['Join', 'Joining…'],
  input: { type: 'text', autoComplete: 'name', className: 'field', maxLength: 128 },
} as const

type Field = (typeof KEY | typeof NAME) & {
  busy: boolean
  refusal: string | undefined
  hint: ReactNode
  onGiven: (given: string) => void
}

function OneField({ id, label, missing, button, input, busy, refusal, hint, onGiven }: Field) {
  const [text, setText] = useState('')
  const [isMissing, setMissing] = useState(false)
  const field = useRef<HTMLInputElement>(null)
  const wrong = isMissing ? missing : refusal
  useEffect(() => {
    if (wrong) field.current?.focus()
  }, [wrong])
  const submit = (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault()
    setMissing(text.trim() === '')
    if (text.trim() !== '') onGiven(text.trim())
  }
  return (
    <form onSubmit={submit} noValidate className="flex flex-col gap-2">
      <label htmlFor={id} className="font-medium">
        {label}
      </label>
      <input
        {...input}
        ref={field}
        id={id}
        spellCheck={false}
        value={text}
        onChange={(event) => setText(event.target.value)}
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
        {button[busy ? 1 : 0]}
      </button>
      <p id="key-hint" className="mt-2 text-sm text-soft">
        {hint}
      </p>
    </form>
  )
}

async function open(client: Client, credential: Credential): Promise<WhoAmI> {
  if (!('invite' in credential)) return client.access.signIn({ body: credential })
  const { invite: code, display_name } = credential
  await client.teams.join({ body: { code, display_name, with: 'session' } })
  return client.access.whoami()
}

function refusalWords(error: unknown, credential: Credential): string {
  if (!isSignedOut(error) || 'invite' in credential) return sentenceOf(error)
  return 'code' in credential
    ? 'This sign-in link has been used or is older than five minutes. Get a new one with baton open, or paste an API key.'
    : 'The server does not know this key. Check that it is whole, that it belongs to this server and that it was not revoked.'
}

const behindHash = (name: string): string | undefined =>
  new URLSearchParams(location.hash.slice(1)).get(name) ?? undefined
