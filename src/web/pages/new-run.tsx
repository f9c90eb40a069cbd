/** Asking for a run. What is typed is kept for this tab until the run has been made. */
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { Link, useNavigate } from '@tanstack/react-router'
import { CircleAlert } from 'lucide-react'
import { type KeyboardEvent, type SubmitEvent, useEffect, useRef, useState } from 'react'
import { type CreateRun, RUN_MODES, RunMode } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import {
  checkDraft,
  clearDraft,
  type Draft,
  type DraftField,
  EMPTY_DRAFT,
  readDraft,
  requestOf,
  understood,
  writeDraft,
} from '../data/draft.ts'
import { keys } from '../data/queries.ts'
import { Choice } from '../parts/choice.tsx'
import { sentenceOf } from '../parts/faces.tsx'
import { Field } from '../parts/field.tsx'
import { ModeChip } from '../parts/mode-chip.tsx'
import { useTitle } from '../parts/title.ts'
import { ForMembers } from '../parts/view-only.tsx'
import { HARNESS_WORDS, harnessWord, MODE_SAYS, MODE_WORDS } from '../words.ts'

type Wrong = Partial<Record<DraftField, string>>

export function NewRunPage() {
  useTitle('New run')
  return (
    <ForMembers title="New run" back="/runs">
      <NewRunForm />
    </ForMembers>
  )
}

function NewRunForm() {
  const [draft, setDraft] = useState<Draft>(readDraft)
  const [wrong, setWrong] = useState<Wrong>({})
  const form = useRef<HTMLFormElement>(null)
  const { send, sending, refusal } = useCreateRun()
  useEffect(() => writeDraft(draft), [draft])

  const change = (part: Partial<Draft>) => {
    setDraft((held) => ({ ...held, ...part }))
    setWrong((held) => Object.fromEntries(Object.entries(held).filter(([field]) => !(field in part))))
  }
  const submit = (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault()
    const found = checkDraft(draft)
    setWrong(found)
    const first = Object.keys(found)[0]
    if (first === undefined) send(requestOf(draft))
    else form.current?.querySelector<HTMLElement>(`#run-${first}`)?.focus()
  }
  const submitByKey = (event: KeyboardEvent) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.current?.requestSubmit()
  }
  const { mode, typed } = understood(draft)
  const field = (name: DraftField) => ({
    id: `run-${name}`,
    value: draft[name],
    wrong: wrong[name],
    onChange: (value: string) =>
      change({ [name]: value, ...(name === 'prompt' && !value.trim().startsWith('/') && { literal: false }) }),
  })

  return (
    <div className="mx-auto max-w-3xl py-6">
      <h1 className="text-xl font-semibold">New run</h1>
      <form ref={form} onSubmit={submit} onKeyDown={submitByKey} noValidate className="mt-4 flex flex-col gap-5">
        <Field
          {...field('prompt')}
          label={draft.harness === 'command' ? 'Shell command' : 'Prompt'}
          rows={6}
          code={draft.harness === 'command'}
          hint={
            draft.harness === 'command'
              ? 'Run by sh in the workspace. Its output is the transcript; its exit code decides.'
              : 'What the agent is to do. Ctrl+Enter starts the run.'
          }
        />
        {typed && <ModeChip mode={mode} onDismiss={() => change({ literal: true })} />}
        <div className="grid gap-5 sm:grid-cols-2">
          <HarnessField value={draft.harness} onChange={(harness) => change({ harness })} />
          {draft.harness !== 'command' && (
            <>
              <Field
                {...field('model')}
                label="Model"
                optional
                hint="Its name as the harness knows it; the harness chooses when empty."
              />
              <Choice
                id="run-mode"
                label="Mode"
                value={mode}
                options={RUN_MODES.map((one) => [one, MODE_WORDS[one]] as const)}
                onChange={(value) => change({ mode: RunMode.parse(value), prompt: understood(draft).prompt })}
                hint={MODE_SAYS[mode]}
              />
            </>
          )}
        </div>
        <fieldset className="flex flex-col gap-5 border-t border-line pt-4">
          <legend className="pr-3 font-semibold">Workspace</legend>
          <div className="grid gap-5 sm:grid-cols-2">
            <Field
              {...field('repository')}
              label="Repository"
              optional
              code
              hint="https or ssh URL, or a path on the worker where it allows that."
            />
            <Field {...field('ref')} label="Branch, tag, commit" optional code hint="The default branch when empty." />
          </div>
          <Field
            {...field('setup')}
            label="Setup commands"
            optional
            rows={3}
            code
            hint="One a line, run in order before the agent starts. The first that fails ends the run."
          />
        </fieldset>
        <div className="grid gap-5 border-t border-line pt-4 sm:grid-cols-2">
          <Field {...field('title')} label="Title" optional hint="Made from the prompt when empty." />
          <Field
            {...field('timeout')}
            label="Time limit in minutes"
            optional
            inputMode="decimal"
            hint="No limit of its own when empty."
          />
        </div>
        {refusal !== undefined && (
          <p
            role="alert"
            className="flex items-start gap-2 rounded-lg border border-failed bg-failed-wash p-3 wrap-anywhere"
          >
            <CircleAlert aria-hidden className="mt-1 size-4 shrink-0 text-failed" />
            <span>
              <strong className="font-semibold">The run was not started.</strong> {refusal}
            </span>
          </p>
        )}
        <div className="flex flex-wrap justify-end gap-2">
          <button
            type="button"
            className="button mr-auto"
            onClick={() => {
              setDraft(EMPTY_DRAFT)
              setWrong({})
            }}
          >
            Clear
          </button>
          <Link to="/runs" className="button">
            Back to runs
          </Link>
          <button type="submit" className="button button-first" disabled={sending}>
            {sending ? 'Starting…' : 'Start run'}
          </button>
        </div>
      </form>
    </div>
  )
}

/** One key for one request, so that a second click or a repeat after a broken line makes no second run. */
function useCreateRun() {
  const { client } = useAsking()
  const navigate = useNavigate()
  const held = useQueryClient()
  const sent = useRef({ body: '', key: '' })
  const create = useMutation({
    mutationFn: (body: CreateRun) => {
      const text = JSON.stringify(body)
      if (sent.current.body !== text) sent.current = { body: text, key: crypto.randomUUID() }
      return client.runs.create({ body, headers: { 'idempotency-key': sent.current.key } })
    },
    onSuccess: async ({ run_id }) => {
      clearDraft()
      void held.invalidateQueries({ queryKey: keys.lists })
      await navigate({ to: '/runs/$runId', params: { runId: run_id } })
    },
  })
  return {
    send: (body: CreateRun) => {
      if (!create.isPending) create.mutate(body)
    },
    sending: create.isPending || create.isSuccess,
    refusal: create.isError ? sentenceOf(create.error) : undefined,
  }
}

function HarnessField({ value, onChange }: { value: string; onChange: (harness: string) => void }) {
  const { queries } = useAsking()
  const workers = useQuery(queries.workers())
  const offered = new Set(workers.data?.flatMap((worker) => worker.harnesses ?? []))
  const silent = workers.data?.some((worker) => worker.harnesses === undefined || worker.harnesses.length === 0) ?? true
  const names = [...new Set([...Object.keys(HARNESS_WORDS), ...offered, value])]
  const missing = workers.isSuccess && !silent && !offered.has(value)
  const none = workers.isSuccess && workers.data.length === 0
  return (
    <div className="flex flex-col gap-1">
      <label htmlFor="run-harness" className="font-medium">
        Harness
      </label>
      <select
        id="run-harness"
        className="field"
        value={value}
        onChange={(event) => onChange(event.target.value)}
        aria-describedby="run-harness-hint"
      >
        {names.map((name) => (
          <option key={name} value={name}>
            {harnessWord(name)}
          </option>
        ))}
      </select>
      <p id="run-harness-hint" className="text-sm text-soft">
        {none
          ? 'No worker is connected: the run waits until one is.'
          : missing
            ? 'No connected worker says that it has this harness: the run waits until one does.'
            : 'The program that drives the model.'}
      </p>
    </div>
  )
}
