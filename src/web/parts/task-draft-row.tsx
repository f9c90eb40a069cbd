/** One task of a batch that is being written. */
import { CircleAlert, Copy, Rows3, SlidersHorizontal, Trash2 } from 'lucide-react'
import { memo, useState } from 'react'
import { linesOf, type TaskDraft, type TaskField, type Wrong } from '../data/batch-draft.ts'
import { Choice } from './choice.tsx'
import { useEnvironmentOptions, useHarnessOptions } from './choices.ts'
import { Field } from './field.tsx'

export type RowActs = {
  change(key: string, part: Partial<TaskDraft>): void
  remove(key: string): void
  duplicate(key: string): void
  split(key: string): void
}

type Props = { task: TaskDraft; number: number; alone: boolean; code: boolean; wrong: string; acts: RowActs }

/** `wrong` is JSON, so that a row whose faults stay the same is not drawn again. */
export const TaskDraftRow = memo(function TaskDraftRow({ task, number, alone, code, wrong, acts }: Props) {
  const faults = JSON.parse(wrong) as Wrong
  const [open, setOpened] = useState(false)
  // What is wrong is opened, and stays so while it is mended.
  if (!open && Object.keys(faults).some((field) => field !== 'prompt' && field !== 'name')) setOpened(true)
  const lines = linesOf(task.prompt).length
  const field = (name: TaskField) => `task-${task.key}-${name}`
  const said = faults.prompt ?? faults.name
  return (
    <li className="py-3 [contain-intrinsic-size:auto_4.5rem] [content-visibility:auto]">
      <div className="flex flex-wrap items-start gap-2">
        <span className="mt-2 w-8 shrink-0 text-right text-sm text-soft tabular-nums">{number}</span>
        <textarea
          id={field('prompt')}
          aria-label={`Task ${number}: ${code ? 'shell command' : 'prompt'}`}
          aria-invalid={faults.prompt ? true : undefined}
          aria-describedby={said ? `task-${task.key}-said` : undefined}
          rows={1}
          placeholder={number === 1 ? 'What it is to do. Paste a list here to make a task of each line.' : ''}
          className={`field max-h-40 min-w-0 flex-1 basis-52 field-sizing-content ${code ? 'font-mono text-sm' : ''}`}
          value={task.prompt}
          onChange={(event) => acts.change(task.key, { prompt: event.target.value })}
        />
        <div className="flex min-w-0 gap-1 max-sm:w-full max-sm:pl-10">
          <input
            id={field('name')}
            aria-label={`Task ${number}: name (optional)`}
            aria-invalid={faults.name ? true : undefined}
            placeholder={`task-${number}`}
            className="field min-w-0 sm:w-36"
            autoComplete="off"
            value={task.name}
            onChange={(event) => acts.change(task.key, { name: event.target.value })}
          />
          <RowButton
            label={`Options of task ${number}`}
            Icon={SlidersHorizontal}
            expanded={open}
            onClick={() => setOpened(!open)}
          />
          <RowButton label={`Duplicate task ${number}`} Icon={Copy} onClick={() => acts.duplicate(task.key)} />
          <RowButton
            label={`Remove task ${number}`}
            Icon={Trash2}
            disabled={alone}
            onClick={() => acts.remove(task.key)}
          />
        </div>
      </div>
      <div className="pl-10">
        {said && (
          <p id={`task-${task.key}-said`} role="alert" className="mt-1 flex items-start gap-1.5 text-sm text-failed">
            <CircleAlert aria-hidden className="mt-0.5 size-4 shrink-0" />
            {said}
          </p>
        )}
        {lines > 1 && (
          <button
            type="button"
            className="link mt-1 inline-flex min-h-7 items-center gap-1.5 text-sm pointer-coarse:min-h-10"
            onClick={() => acts.split(task.key)}
          >
            <Rows3 aria-hidden className="size-4" />
            Make {lines.toLocaleString()} tasks of these lines
          </button>
        )}
        {open && <Options task={task} faults={faults} field={field} acts={acts} />}
      </div>
    </li>
  )
})

type ButtonProps = {
  label: string
  Icon: typeof Copy
  onClick: () => void
  expanded?: boolean
  disabled?: boolean
}

function RowButton({ label, Icon, onClick, expanded, disabled }: ButtonProps) {
  return (
    <button
      type="button"
      aria-label={label}
      title={label}
      aria-expanded={expanded}
      disabled={disabled}
      onClick={onClick}
      className="grid size-9 shrink-0 place-items-center rounded-lg hover:bg-raised disabled:opacity-40 pointer-coarse:size-11"
    >
      <Icon aria-hidden className="size-4" />
    </button>
  )
}

type OptionsProps = { task: TaskDraft; faults: Wrong; field: (name: TaskField) => string; acts: RowActs }

function Options({ task, faults, field, acts }: OptionsProps) {
  const harnesses = useHarnessOptions('As all tasks')
  const environments = useEnvironmentOptions('As all tasks')
  const part = (name: TaskField) => ({
    id: field(name),
    value: task[name],
    wrong: faults[name],
    onChange: (value: string) => acts.change(task.key, { [name]: value }),
  })
  return (
    <div className="mt-3 grid gap-4 rounded-xl border border-line p-3 sm:grid-cols-2 xl:grid-cols-3">
      <Choice {...part('harness')} label="Harness" options={harnesses} />
      <Field {...part('model')} label="Model" optional hint="As all tasks when empty." />
      <Choice {...part('environment')} label="Environment" options={environments.options} />
      <Field {...part('retries')} label="Retries" optional inputMode="decimal" hint="As all tasks when empty." />
      <Choice
        {...part('retry')}
        label="Tried again"
        options={[
          ['', 'After passing failures'],
          ['all', 'After any failure'],
        ]}
      />
      <Field
        {...part('depends_on')}
        label="Waits for"
        optional
        hint="Names of tasks, with commas. Their results are given to this one."
      />
    </div>
  )
}
