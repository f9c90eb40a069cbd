/** The messages to and from a run, oldest first. */
import { useQuery, useQueryClient } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { ArrowDownLeft, ArrowUpRight, Check, CheckCheck, Clock3, MailOpen, Zap } from 'lucide-react'
import { useState } from 'react'
import type { Letter, Run } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import type { Letters } from '../data/letters.ts'
import { keys } from '../data/queries.ts'
import { Disclosure } from '../transcript/blocks.tsx'
import { Prose } from '../transcript/prose.tsx'
import { When } from './clock.tsx'
import { Refused, sentenceOf, Waiting } from './faces.tsx'

export function Messages({ run }: { run: Run }) {
  const { queries } = useAsking()
  const letters = useQuery(queries.letters(run.run_id))
  return (
    <section aria-label="Messages" className="flex min-h-0 flex-1 flex-col gap-3">
      <div className="min-h-0 flex-1 lg:overflow-y-auto">
        {letters.isPending ? (
          <Waiting>Loading the messages…</Waiting>
        ) : letters.data === undefined ? (
          <Refused
            title="The messages could not be read"
            error={letters.error}
            onRetry={() => void letters.refetch()}
          />
        ) : letters.data.messages.length === 0 ? (
          <p className="py-8 text-center text-soft">
            No messages yet. What runs and people write to this run, and what it writes, shows up here.
          </p>
        ) : (
          <>
            {letters.isRefetchError && (
              <p role="alert" className="text-sm text-failed">
                The messages could not be renewed. {sentenceOf(letters.error)}
              </p>
            )}
            <Earlier run_id={run.run_id} letters={letters.data} />
            <ol className="divide-y divide-line rounded-xl border border-line">
              {letters.data.messages.map((letter) => (
                <LetterRow key={letter.message_id} letter={letter} run_id={run.run_id} />
              ))}
            </ol>
          </>
        )}
      </div>
    </section>
  )
}

function Earlier({ run_id, letters }: { run_id: string; letters: Letters }) {
  const { client } = useAsking()
  const held = useQueryClient()
  const [state, setState] = useState<'idle' | 'reading' | { error: unknown }>('idle')
  if (!letters.has_earlier) return null
  const read = async () => {
    const before = letters.messages[0]?.message_id
    if (before === undefined) return
    setState('reading')
    try {
      const page = await client.messages.mailbox({ params: { run_id }, query: { before } })
      held.setQueryData<Letters>(
        keys.letters(run_id),
        (now) => now && { messages: [...page.messages, ...now.messages], has_earlier: page.has_earlier },
      )
      setState('idle')
    } catch (error) {
      setState({ error })
    }
  }
  return (
    <p className="flex flex-wrap items-center justify-center gap-2 pb-2 text-sm">
      <button type="button" className="button" disabled={state === 'reading'} onClick={() => void read()}>
        {state === 'reading' ? 'Loading…' : 'Show earlier messages'}
      </button>
      {typeof state === 'object' && (
        <span role="alert" className="text-failed">
          {sentenceOf(state.error)}
        </span>
      )}
    </p>
  )
}

function LetterRow({ letter, run_id }: { letter: Letter; run_id: string }) {
  const [open, setOpen] = useState(false)
  const incoming = letter.recipient_run_id === run_id
  const Direction = incoming ? ArrowDownLeft : ArrowUpRight
  return (
    <li className="px-4 py-2 text-sm" data-letter={letter.message_id}>
      <div className="flex flex-wrap items-center gap-x-3 gap-y-0.5 text-soft">
        <span className="inline-flex min-w-0 items-center gap-1">
          <Direction aria-hidden className="size-4 shrink-0" />
          {incoming ? 'From' : 'To'}{' '}
          <Correspondent
            run_id={incoming ? letter.sender_run_id : letter.recipient_run_id}
            name={incoming ? letter.sender_name : letter.recipient_name}
          />
        </span>
        {letter.urgent && (
          <span className="inline-flex items-center gap-1 text-needs">
            <Zap aria-hidden className="size-3.5" />
            Urgent
          </span>
        )}
        <LetterState letter={letter} />
        <span className="ml-auto">
          <When at={letter.sent_at} />
        </span>
      </div>
      <Disclosure
        open={open}
        onToggle={() => setOpen(!open)}
        summary={
          <span className={`min-w-0 text-left font-medium ${open ? 'wrap-anywhere' : 'truncate'}`}>
            {letter.subject.trim() === '' ? '(no subject)' : letter.subject}
          </span>
        }
      >
        <LetterBody run_id={run_id} message_id={letter.message_id} />
      </Disclosure>
    </li>
  )
}

export function Correspondent({ run_id, name }: { run_id: string | null; name: string }) {
  if (run_id === null) return <span className="max-w-48 truncate text-ink">{name}</span>
  return (
    <Link
      to="/runs/$runId"
      params={{ runId: run_id }}
      className="link inline-flex min-h-7 max-w-48 items-center pointer-coarse:min-h-9"
    >
      <span className="truncate">{name}</span>
    </Link>
  )
}

const LOOK = {
  accepted: { Icon: Clock3, word: 'Accepted', says: 'It is kept, and its run has not been given it yet.' },
  delivered: { Icon: Check, word: 'Delivered', says: 'Its run has been given it.' },
  read: { Icon: CheckCheck, word: 'Read', says: 'Its run has read the whole of it.' },
  read_before: { Icon: MailOpen, word: 'Read', says: 'Its run has read it before it was given to it.' },
}

function LetterState({ letter }: { letter: Letter }) {
  const { delivered_at, read_at } = letter
  const state =
    read_at !== null
      ? delivered_at === null
        ? 'read_before'
        : 'read'
      : delivered_at === null
        ? 'accepted'
        : 'delivered'
  const { Icon, word, says } = LOOK[state]
  return (
    <span className="inline-flex items-center gap-1" title={says}>
      <Icon aria-hidden className="size-3.5" />
      {word}
    </span>
  )
}

export function LetterBody({ run_id, message_id }: { run_id: string; message_id: string }) {
  const { queries } = useAsking()
  const letter = useQuery(queries.letter(run_id, message_id))
  if (letter.isPending) return <p className="text-soft">Loading…</p>
  if (!letter.data)
    return (
      <p role="alert">
        <span className="text-failed">{sentenceOf(letter.error)}</span>{' '}
        <button type="button" className="link min-h-6" onClick={() => void letter.refetch()}>
          Try again
        </button>
      </p>
    )
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <section tabIndex={0} aria-label="Text of the message" className="max-h-96 overflow-y-auto">
      {letter.data.body.trim() === '' ? <p className="text-soft">(no text)</p> : <Prose text={letter.data.body} />}
    </section>
  )
}
