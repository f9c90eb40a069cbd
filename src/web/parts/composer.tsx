/** Writing a message to a run. What is typed is kept for this tab until it has been accepted. */
import { useMutation, useQueryClient } from '@tanstack/react-query'
import { CircleAlert, Info, Send } from 'lucide-react'
import { type KeyboardEvent, type SubmitEvent, useEffect, useId, useRef, useState } from 'react'
import type { Run } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import { checkLetter, EMPTY_LETTER, type LetterDraft, readLetter, subjectOf, writeLetter } from '../data/letters.ts'
import { keys } from '../data/queries.ts'
import { deliveryWords, whyNotWoken } from '../words.ts'
import { useAnnounce } from './announce.tsx'
import { sentenceOf } from './faces.tsx'

export function Composer({ run }: { run: Run }) {
  const { client } = useAsking()
  const held = useQueryClient()
  const announce = useAnnounce()
  const id = useId()
  const [draft, setDraft] = useState(() => readLetter(run.run_id))
  const [wrong, setWrong] = useState<ReturnType<typeof checkLetter>>({})
  const text = useRef<HTMLTextAreaElement>(null)
  const sent = useRef({ body: '', key: '' })
  useEffect(() => writeLetter(run.run_id, draft), [run.run_id, draft])
  const send = useMutation({
    mutationFn: (letter: LetterDraft) => {
      const body = {
        to: [run.run_id],
        subject: subjectOf(letter),
        body: letter.body,
        ...(letter.urgent ? { urgent: true } : {}),
      }
      // The same letter sent again after a refusal or a broken line is one message.
      const words = JSON.stringify(body)
      if (sent.current.body !== words) sent.current = { body: words, key: crypto.randomUUID() }
      return client.messages.send({ body, headers: { 'idempotency-key': sent.current.key } })
    },
    onSuccess: () => {
      sent.current = { body: '', key: '' }
      setDraft(EMPTY_LETTER)
      announce('The message was accepted.')
      text.current?.focus()
      void held.invalidateQueries({ queryKey: keys.letters(run.run_id) })
    },
  })
  const change = (part: Partial<LetterDraft>) => {
    setDraft((now) => ({ ...now, ...part }))
    setWrong({})
  }
  const submit = (event?: SubmitEvent) => {
    event?.preventDefault()
    if (send.isPending) return
    const found = checkLetter(draft)
    setWrong(found)
    if (Object.keys(found).length === 0) send.mutate(draft)
    else text.current?.focus()
  }
  const onKey = (event: KeyboardEvent) => {
    if (event.key === 'Enter' && (event.metaKey || event.ctrlKey)) submit()
  }
  const cannot = whyNotWoken(run)
  if (cannot !== undefined && draft.body === '')
    return (
      <p className="flex shrink-0 items-start gap-2 rounded-xl border border-line bg-raised px-4 py-3 text-sm">
        <Info aria-hidden className="mt-0.5 size-4 shrink-0 text-soft" />
        {cannot} A message to it would be refused.
      </p>
    )
  return (
    <form
      aria-label="Send a message"
      onSubmit={submit}
      onKeyDown={onKey}
      className="flex shrink-0 flex-col gap-2 rounded-xl border border-line bg-raised p-3"
    >
      <label htmlFor={`${id}-body`} className="font-medium">
        Message to this run
      </label>
      <textarea
        ref={text}
        id={`${id}-body`}
        rows={3}
        className="field"
        value={draft.body}
        aria-invalid={wrong.body ? true : undefined}
        aria-describedby={`${id}-says ${id}-wrong`}
        onChange={(event) => change({ body: event.target.value })}
      />
      <div className="flex flex-wrap items-center gap-x-4 gap-y-2">
        <input
          aria-label="Subject (optional)"
          placeholder="Subject: the first line, unless you write one"
          className="field min-w-40 flex-1 basis-56"
          value={draft.subject}
          aria-invalid={wrong.subject ? true : undefined}
          autoComplete="off"
          onChange={(event) => change({ subject: event.target.value })}
        />
        <label className="inline-flex min-h-8 items-center gap-2 pointer-coarse:min-h-11">
          <input
            type="checkbox"
            className="size-4 accent-accent"
            checked={draft.urgent}
            onChange={(event) => change({ urgent: event.target.checked })}
          />
          <span title="It may interrupt what the agent does now.">Urgent</span>
        </label>
        <button type="submit" className="button button-first" disabled={send.isPending}>
          <Send aria-hidden className="size-4" />
          {send.isPending ? 'Sending…' : 'Send'}
        </button>
      </div>
      <p id={`${id}-says`} className="text-sm text-soft">
        {cannot ?? deliveryWords(run)}
        {draft.urgent && ' Urgent: it may interrupt what the agent does now.'}
      </p>
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
