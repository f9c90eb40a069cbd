/**
 * Saying something to a run. What a person says is a follow-up; with a subject, or urgent, it is a message. What is
 * typed is kept for this tab until it has been accepted.
 */
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { CircleAlert, Info, Send } from 'lucide-react'
import { type KeyboardEvent, type SubmitEvent, useEffect, useId, useRef, useState } from 'react'
import { harnessOf, isEnded, type Run, readTyped } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import { checkLetter, EMPTY_LETTER, type LetterDraft, readLetter, subjectOf, writeLetter } from '../data/letters.ts'
import { TAKES_MEMBER, useMay } from '../data/may.ts'
import { keys } from '../data/queries.ts'
import { putRun } from '../data/runs.ts'
import { deliveryWords, followUpWords, runStatus, whyNotWoken } from '../words.ts'
import { useAnnounce } from './announce.tsx'
import { sentenceOf } from './faces.tsx'
import { ModeChip } from './mode-chip.tsx'
import { ViewOnlyNote } from './view-only.tsx'

/** `whole`: with a subject, and with the reason where nothing can be said. */
type Props = { run: Run; whole: boolean }

const isMessage = (draft: LetterDraft): boolean => draft.urgent || draft.subject.trim() !== ''

/** What is said and the mode that its start asks for. A plan's words and a command know no modes. */
function understood(run: Run, draft: LetterDraft) {
  const plain = isMessage(draft) || draft.literal || run.open_plan !== undefined
  if (plain || harnessOf(run.agent_config) === 'command') return { mode: 'normal' as const, prompt: draft.body }
  return readTyped(draft.body)
}

export function Composer({ run, whole }: Props) {
  if (useMay()) return <Writing run={run} whole={whole} />
  return whole ? <ViewOnlyNote>To send a message {TAKES_MEMBER}</ViewOnlyNote> : null
}

function Writing({ run, whole }: Props) {
  const announce = useAnnounce()
  const id = useId()
  const [draft, setDraft] = useState(() => readLetter(run.run_id))
  const [wrong, setWrong] = useState<ReturnType<typeof checkLetter>>({})
  const text = useRef<HTMLTextAreaElement>(null)
  useEffect(() => writeLetter(run.run_id, draft), [run.run_id, draft])
  const send = useSending(run, (word) => {
    setDraft(EMPTY_LETTER)
    announce(word)
    text.current?.focus()
  })
  const { state, says, button } = useComposerState(run, draft, send.isPending)
  const { mode, prompt } = understood(run, draft)
  const change = (part: Partial<LetterDraft>) => {
    setDraft((now) => ({ ...now, ...part }))
    setWrong({})
  }
  const submit = (event?: SubmitEvent) => {
    event?.preventDefault()
    if (send.isPending) return
    const found = checkLetter({ ...draft, body: prompt })
    setWrong(found)
    if (Object.keys(found).length === 0) send.mutate(draft)
    else text.current?.focus()
  }
  const onKey = (event: KeyboardEvent) => {
    if (event.key === 'Enter' && (event.metaKey || event.ctrlKey)) submit()
  }
  const cannot = whyNotWoken(run)
  if (cannot !== undefined && draft.body === '') return whole ? <Unheard reason={cannot} /> : null
  return (
    <form
      aria-label="Send a message"
      data-state={state}
      onSubmit={submit}
      onKeyDown={onKey}
      className="mt-2 flex shrink-0 flex-col gap-2 rounded-xl border border-line bg-raised p-3"
    >
      {whole && (
        <input
          aria-label="Subject (optional)"
          placeholder="Subject, where it is a message with one"
          className="field"
          value={draft.subject}
          aria-invalid={wrong.subject ? true : undefined}
          autoComplete="off"
          onChange={(event) => change({ subject: event.target.value })}
        />
      )}
      <label htmlFor={`${id}-body`} className={whole ? 'font-medium' : 'sr-only'}>
        Message to this run
      </label>
      <textarea
        ref={text}
        id={`${id}-body`}
        rows={2}
        placeholder={run.open_plan === undefined ? 'Say something to this run' : 'Say what to change of the plan'}
        className="field max-h-48 field-sizing-content"
        value={draft.body}
        aria-invalid={wrong.body ? true : undefined}
        aria-describedby={`${id}-says ${id}-wrong`}
        onChange={(event) => change({ body: event.target.value })}
      />
      {mode !== 'normal' && <ModeChip mode={mode} onDismiss={() => change({ literal: true })} />}
      <div className="flex flex-wrap items-center gap-x-4 gap-y-2">
        <p id={`${id}-says`} className="min-w-0 flex-1 basis-56 text-sm text-soft">
          {cannot ?? says}
        </p>
        {run.open_plan === undefined && (
          <label className="inline-flex min-h-8 items-center gap-2 pointer-coarse:min-h-11">
            <input
              type="checkbox"
              className="size-4 accent-accent"
              checked={draft.urgent}
              onChange={(event) => change({ urgent: event.target.checked })}
            />
            <span title="A message that may interrupt what the agent does now.">Urgent</span>
          </label>
        )}
        <button type="submit" className="button button-first" disabled={send.isPending}>
          <Send aria-hidden className="size-4" />
          {button}
        </button>
      </div>
      <p id={`${id}-wrong`} role="alert" className="text-sm text-failed empty:hidden">
        {(wrong.body ?? wrong.subject ?? send.error) && (
          <span className="flex items-start gap-1.5">
            <CircleAlert aria-hidden className="mt-0.5 size-4 shrink-0" />
            {wrong.body ?? wrong.subject ?? `It was not sent. ${sentenceOf(send.error)}`}
          </span>
        )}
      </p>
    </form>
  )
}

function Unheard({ reason }: { reason: string }) {
  return (
    <p className="mt-2 flex shrink-0 items-start gap-2 rounded-xl border border-line bg-raised px-4 py-3 text-sm">
      <Info aria-hidden className="mt-0.5 size-4 shrink-0 text-soft" />
      {reason} A message to it would be refused.
    </p>
  )
}

type ComposerState = 'sending' | 'plan' | 'ended' | 'queued' | 'running' | 'idle'

function useComposerState(run: Run, draft: LetterDraft, sending: boolean) {
  const { queries } = useAsking()
  // Read only where something else wants them too: what a person said is among them until it is delivered.
  const letters = useQuery({ ...queries.letters(run.run_id), enabled: false })
  const queued = letters.data?.messages.filter(
    (letter) => letter.delivered_at === null && letter.sender_run_id === null,
  ).length
  const state: ComposerState = sending
    ? 'sending'
    : run.open_plan !== undefined
      ? 'plan'
      : isEnded(run.state)
        ? 'ended'
        : queued
          ? 'queued'
          : runStatus(run) === 'working'
            ? 'running'
            : 'idle'
  const words = isMessage(draft) ? deliveryWords(run) : followUpWords(run)
  const urgent = draft.urgent ? ' Urgent: it may interrupt what the agent does now.' : ''
  const waits = state === 'queued' ? `${queued === 1 ? '1 message waits' : `${queued} messages wait`} for it. ` : ''
  const button = {
    sending: 'Sending…',
    plan: 'Ask for changes',
    ended: 'Send and wake',
    queued: 'Send',
    running: 'Send',
    idle: 'Send',
  }[state]
  return { state, says: waits + words + urgent, button }
}

function useSending(run: Run, onAccepted: (word: string) => void) {
  const { client } = useAsking()
  const held = useQueryClient()
  const sent = useRef({ words: '', key: '' })
  const { run_id } = run
  return useMutation({
    mutationFn: async (draft: LetterDraft): Promise<string> => {
      // The same words sent again after a refusal or a broken line are one message.
      const words = JSON.stringify(draft)
      if (sent.current.words !== words) sent.current = { words, key: crypto.randomUUID() }
      const headers = { 'idempotency-key': sent.current.key }
      if (isMessage(draft)) {
        const letter = { to: [run_id], subject: subjectOf(draft), body: draft.body }
        await client.messages.send({ body: { ...letter, ...(draft.urgent && { urgent: true }) }, headers })
        return 'The message was accepted.'
      }
      const { mode, prompt } = understood(run, draft)
      const body = { message: prompt, ...(mode !== 'normal' && { mode }) }
      await client.followUps.create({ params: { run_id }, body, headers })
      return run.open_plan === undefined ? 'It was accepted.' : 'The agent was asked for changes.'
    },
    onSuccess: (word) => {
      sent.current = { words: '', key: '' }
      onAccepted(word)
      void held.invalidateQueries({ queryKey: keys.letters(run_id) })
      void client.runs.get({ params: { run_id } }).then(
        (now) => putRun(held, now),
        () => undefined,
      )
    },
  })
}
