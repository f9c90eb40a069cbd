/** The Orchestrator: a list of tasks for many agents. What is typed is kept for this tab until the batch has begun. */
import { useMutation, useQueryClient } from '@tanstack/react-query'
import { Link, useNavigate } from '@tanstack/react-router'
import { CircleAlert, Plus } from 'lucide-react'
import { type KeyboardEvent, type SubmitEvent, useEffect, useMemo, useRef, useState } from 'react'
import { BATCH_RETRIES, type CreateBatch } from '../../contract/index.ts'
import {
  type BatchDraft,
  checkBatch,
  clearBatchDraft,
  emptyBatch,
  isBlank,
  newTask,
  readBatchDraft,
  requestOfBatch,
  splitTask,
  type Wrong,
  writeBatchDraft,
  wrongOf,
} from '../data/batch-draft.ts'
import { useAsking } from '../data/context.tsx'
import { keys } from '../data/queries.ts'
import { useAnnounce } from '../parts/announce.tsx'
import { Choice } from '../parts/choice.tsx'
import { useEnvironmentOptions, useHarnessOptions } from '../parts/choices.ts'
import { sentenceOf } from '../parts/faces.tsx'
import { Field } from '../parts/field.tsx'
import { type RowActs, TaskDraftRow } from '../parts/task-draft-row.tsx'
import { useTitle } from '../parts/title.ts'
import { ForMembers } from '../parts/view-only.tsx'

export function NewBatchPage() {
  useTitle('Orchestrator')
  return (
    <ForMembers title="Orchestrator" back="/batches">
      <NewBatchForm />
    </ForMembers>
  )
}

function NewBatchForm() {
  const [draft, setDraft] = useState<BatchDraft>(readBatchDraft)
  const [wrong, setWrong] = useState<Wrong>({})
  const form = useRef<HTMLFormElement>(null)
  const begin = useBegin((error) => show(wrongOf(draft, error)))
  useEffect(() => writeBatchDraft(draft), [draft])
  const acts = useRowActs(setDraft, setWrong)
  const show = (found: Wrong) => {
    setWrong(found)
    const first = Object.keys(found)[0]
    if (first !== undefined)
      requestAnimationFrame(() => form.current?.querySelector<HTMLElement>(selectorOf(first))?.focus())
  }
  const submit = (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault()
    const found = checkBatch(draft)
    show(found)
    if (Object.keys(found).length === 0) begin.send(requestOfBatch(draft))
  }
  const submitByKey = (event: KeyboardEvent) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.current?.requestSubmit()
  }
  const change = (part: Partial<BatchDraft>) => {
    setDraft((held) => ({ ...held, ...part }))
    setWrong((held) => Object.fromEntries(Object.entries(held).filter(([name]) => !(name in part) && name !== 'batch')))
  }
  const count = draft.tasks.filter((task) => !isBlank(task)).length
  return (
    <div className="py-6">
      <h1 className="text-xl font-semibold">Orchestrator</h1>
      <p className="mt-1 text-soft">
        Each task is worked on by an agent of its own, so many at a time. Those that fail for a passing reason are tried
        again.
      </p>
      <form ref={form} onSubmit={submit} onKeyDown={submitByKey} noValidate className="mt-4 flex flex-col gap-5">
        <TaskList draft={draft} wrong={wrong} acts={acts} />
        <AddTask draft={draft} onAdd={(tasks) => change({ tasks })} />
        <ForAll draft={draft} wrong={wrong} change={change} />
        {(begin.refusal ?? wrong.batch) && (
          <p
            role="alert"
            className="flex items-start gap-2 rounded-lg border border-failed bg-failed-wash p-3 wrap-anywhere"
          >
            <CircleAlert aria-hidden className="mt-1 size-4 shrink-0 text-failed" />
            <span>
              <strong className="font-semibold">The batch was not started.</strong> {begin.refusal ?? wrong.batch}
            </span>
          </p>
        )}
        <div className="flex flex-wrap justify-end gap-2">
          <button
            type="button"
            className="button mr-auto"
            onClick={() => {
              setDraft(emptyBatch())
              setWrong({})
            }}
          >
            Clear
          </button>
          <Link to="/batches" className="button">
            Back to batches
          </Link>
          <button type="submit" className="button button-first" disabled={begin.sending}>
            {begin.sending ? 'Starting…' : count > 1 ? `Start ${count.toLocaleString()} tasks` : 'Start'}
          </button>
        </div>
      </form>
    </div>
  )
}

/** A task's key is a uuid, which may begin with a digit: it is found by its attribute. */
const selectorOf = (field: string): string =>
  field.includes('.') ? `[id="task-${field.replace('.', '-')}"]` : `[id="batch-${field}"]`

function useRowActs(
  setDraft: (change: (held: BatchDraft) => BatchDraft) => void,
  setWrong: (change: (held: Wrong) => Wrong) => void,
): RowActs {
  const announce = useAnnounce()
  return useMemo(() => {
    const tasks = (change: (held: BatchDraft['tasks']) => BatchDraft['tasks']) =>
      setDraft((held) => ({ ...held, tasks: change(held.tasks) }))
    return {
      change(key, part) {
        tasks((held) => held.map((task) => (task.key === key ? { ...task, ...part } : task)))
        setWrong((held) =>
          Object.fromEntries(
            Object.entries(held).filter(([name]) => !Object.keys(part).some((one) => name === `${key}.${one}`)),
          ),
        )
      },
      remove(key) {
        tasks((held) => (held.length === 1 ? held : held.filter((task) => task.key !== key)))
        announce('The task was removed.')
      },
      duplicate(key) {
        tasks((held) => held.flatMap((task) => (task.key === key ? [task, newTask({ ...task, name: '' })] : [task])))
        announce('The task was duplicated.')
      },
      split(key) {
        tasks((held) => held.flatMap((task) => (task.key === key ? splitTask(task) : [task])))
        announce('A task was made of each line.')
      },
    }
  }, [setDraft, setWrong, announce])
}

function TaskList({ draft, wrong, acts }: { draft: BatchDraft; wrong: Wrong; acts: RowActs }) {
  const faults = useMemo(() => {
    const byTask = new Map<string, Wrong>()
    for (const [field, words] of Object.entries(wrong)) {
      const [key = '', name] = field.split('.')
      if (name !== undefined) byTask.set(key, { ...byTask.get(key), [name]: words })
    }
    return byTask
  }, [wrong])
  return (
    <ol aria-label="Tasks" className="divide-y divide-line border-y border-line">
      {draft.tasks.map((task, at) => (
        <TaskDraftRow
          key={task.key}
          task={task}
          number={at + 1}
          alone={draft.tasks.length === 1}
          code={(task.harness || draft.harness) === 'command'}
          wrong={JSON.stringify(faults.get(task.key) ?? {})}
          acts={acts}
        />
      ))}
    </ol>
  )
}

function AddTask({ draft, onAdd }: { draft: BatchDraft; onAdd: (tasks: BatchDraft['tasks']) => void }) {
  const add = () => {
    const task = newTask()
    onAdd([...draft.tasks, task])
    requestAnimationFrame(() => document.getElementById(`task-${task.key}-prompt`)?.focus())
  }
  return (
    <button type="button" className="button self-start" onClick={add}>
      <Plus aria-hidden className="size-4" />
      Add a task
    </button>
  )
}

type AllProps = { draft: BatchDraft; wrong: Wrong; change: (part: Partial<BatchDraft>) => void }
type TextPart = Exclude<keyof BatchDraft, 'tasks' | 'stop_on_failure'>

function ForAll({ draft, wrong, change }: AllProps) {
  const harnesses = useHarnessOptions('The built-in agent').filter(([name]) => name !== '')
  const environments = useEnvironmentOptions('None')
  const part = (name: TextPart) => ({
    id: `batch-${name}`,
    value: draft[name],
    wrong: wrong[name],
    onChange: (value: string) => change({ [name]: value }),
  })
  return (
    <fieldset className="flex flex-col gap-5 border-t border-line pt-4">
      <legend className="pr-3 font-semibold">For all tasks</legend>
      <div className="grid gap-5 sm:grid-cols-2 lg:grid-cols-3">
        <Choice {...part('harness')} label="Harness" options={harnesses} hint="The program that does the task." />
        {draft.harness !== 'command' && (
          <Field {...part('model')} label="Model" optional hint="The harness chooses when empty." />
        )}
        <Choice
          {...part('environment')}
          label="Environment"
          options={environments.options}
          hint={environments.failed ? 'The environments could not be read.' : 'Where they work.'}
        />
        <Field
          {...part('concurrency')}
          label="At work at a time"
          inputMode="decimal"
          hint="The others wait, in the order of the list."
        />
        <Field
          {...part('retries')}
          label="Retries"
          optional
          inputMode="decimal"
          hint={`Tries after the first, with growing pauses; ${BATCH_RETRIES} when empty.`}
        />
        <Field {...part('title')} label="Title" optional hint="Made from the tasks when empty." />
      </div>
      <Field
        {...part('base_prompt')}
        label="Before each prompt"
        optional
        rows={2}
        hint="What all of them are to know. A blank line follows it."
      />
      <label className="inline-flex min-h-8 items-start gap-2 self-start pointer-coarse:min-h-11">
        <input
          type="checkbox"
          className="mt-1 size-4 shrink-0 accent-accent"
          checked={draft.stop_on_failure}
          onChange={(event) => change({ stop_on_failure: event.target.checked })}
        />
        <span>
          Stop on failure
          <span className="block text-sm text-soft">
            The first task that fails for good keeps the others from starting; those at work go on.
          </span>
        </span>
      </label>
    </fieldset>
  )
}

/** One key for one request, so that a second click or a repeat after a broken line makes no second batch. */
function useBegin(onRefused: (error: unknown) => void) {
  const { client } = useAsking()
  const navigate = useNavigate()
  const held = useQueryClient()
  const sent = useRef({ body: '', key: '' })
  const create = useMutation({
    mutationFn: (body: CreateBatch) => {
      const text = JSON.stringify(body)
      if (sent.current.body !== text) sent.current = { body: text, key: crypto.randomUUID() }
      return client.batches.create({ body, headers: { 'idempotency-key': sent.current.key } })
    },
    onSuccess: async (batch) => {
      clearBatchDraft()
      held.setQueryData(keys.batch(batch.batch_id), batch)
      void held.invalidateQueries({ queryKey: keys.lists })
      await navigate({ to: '/batches/$batchId', params: { batchId: batch.batch_id } })
    },
    onError: onRefused,
  })
  return {
    send: (body: CreateBatch) => {
      if (!create.isPending) create.mutate(body)
    },
    sending: create.isPending || create.isSuccess,
    refusal: create.isError ? refusalOf(create.error) : undefined,
  }
}

/** What has a field of its own is told there. */
const refusalOf = (error: unknown): string =>
  error instanceof Error && error.name === 'Fault' ? error.message : sentenceOf(error)
