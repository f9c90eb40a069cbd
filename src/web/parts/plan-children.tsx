/** The children that a plan would start, as cards. While its version is open they may be edited and taken out. */
import { Pencil, Trash2 } from 'lucide-react'
import { useState } from 'react'
import type { PlanChild } from '../../contract/index.ts'
import { withField } from '../data/plan-draft.ts'
import { harnessWord } from '../words.ts'
import { useAnnounce } from './announce.tsx'
import { Avatar } from './avatar.tsx'
import { Choice } from './choice.tsx'
import { useEnvironmentOptions, useHarnessOptions } from './choices.ts'
import { Field } from './field.tsx'

type Props = {
  planned: PlanChild[]
  /** Absent: they are only shown. */
  onChange?: (children: PlanChild[]) => void
  wrong?: Record<string, string>
}

export function PlanChildren({ planned, onChange, wrong = {} }: Props) {
  const announce = useAnnounce()
  const [opened, setOpened] = useState<ReadonlySet<number>>(new Set())
  // What is wrong is opened, and stays so while it is mended.
  const faulty = planned.flatMap((_, at) =>
    !opened.has(at) && Object.keys(wrong).some((field) => field.startsWith(`children.${at}.`)) ? [at] : [],
  )
  if (faulty.length > 0) setOpened(new Set([...opened, ...faulty]))
  if (planned.length === 0)
    return <p className="text-soft">No children: once this is approved, the agent goes on alone.</p>
  const remove = (at: number) => {
    setOpened(new Set())
    announce(`${planned[at]?.name} was taken out of the plan.`)
    onChange?.(planned.filter((_, one) => one !== at))
  }
  return (
    <ul aria-label="Children of the plan" className="grid gap-3">
      {planned.map((child, at) => {
        const open = onChange !== undefined && opened.has(at)
        return (
          // biome-ignore lint/suspicious/noArrayIndexKey: its name may be edited, so that its place is what it is known by
          <li key={at} className="min-w-0 rounded-xl border border-line p-3">
            <div className="flex items-start gap-2">
              <Avatar name={child.name} className="mt-0.5 size-6" />
              <div className="min-w-0 flex-1">
                <p className="font-medium wrap-anywhere">{child.title ?? child.name}</p>
                <ChildFacts child={child} />
              </div>
              {onChange && (
                <div className="flex shrink-0 gap-1">
                  <button
                    type="button"
                    aria-expanded={open}
                    aria-label={`Edit ${child.name}`}
                    title="Edit"
                    className="grid size-9 place-items-center rounded-lg hover:bg-raised pointer-coarse:size-11"
                    onClick={() => setOpened(new Set([...opened].filter((one) => one !== at).concat(open ? [] : [at])))}
                  >
                    <Pencil aria-hidden className="size-4" />
                  </button>
                  <button
                    type="button"
                    aria-label={`Remove ${child.name}`}
                    title="Remove"
                    className="grid size-9 place-items-center rounded-lg hover:bg-raised pointer-coarse:size-11"
                    onClick={() => remove(at)}
                  >
                    <Trash2 aria-hidden className="size-4" />
                  </button>
                </div>
              )}
            </div>
            {open ? (
              <ChildFields
                at={at}
                child={child}
                wrong={wrong}
                onChange={(next) => onChange(planned.map((one, place) => (place === at ? next : one)))}
              />
            ) : (
              <ChildText child={child} />
            )}
          </li>
        )
      })}
    </ul>
  )
}

function ChildFacts({ child }: { child: PlanChild }) {
  const facts = [
    ...(child.title === undefined || child.title === child.name ? [] : [child.name]),
    ...(child.environment === undefined ? [] : [`environment ${child.environment}`]),
    ...(child.harness === undefined ? [] : [harnessWord(child.harness)]),
    ...(child.model_id === undefined ? [] : [child.model_id]),
  ]
  return facts.length === 0 ? null : <p className="text-sm text-soft wrap-anywhere">{facts.join(' · ')}</p>
}

function ChildText({ child }: { child: PlanChild }) {
  return (
    <div className="mt-2 flex flex-col gap-2 text-sm">
      <section
        aria-label={`Prompt of ${child.name}`}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        tabIndex={0}
        className="max-h-40 overflow-y-auto whitespace-pre-wrap wrap-anywhere"
      >
        {child.prompt}
      </section>
      {child.expected_return && (
        <p className="wrap-anywhere">
          <span className="text-soft">Returns: </span>
          {child.expected_return}
        </p>
      )}
    </div>
  )
}

type FieldsProps = {
  at: number
  child: PlanChild
  wrong: Record<string, string>
  onChange: (child: PlanChild) => void
}

function ChildFields({ at, child, wrong, onChange }: FieldsProps) {
  const harnesses = useHarnessOptions('As all children')
  const environments = useEnvironmentOptions('As all children')
  const field = (name: 'name' | 'prompt' | 'expected_return' | 'model_id') => ({
    id: `plan-children-${at}-${name}`,
    value: child[name] ?? '',
    wrong: wrong[`children.${at}.${name}`],
  })
  return (
    <div className="mt-3 flex flex-col gap-3">
      <Field
        {...field('name')}
        label="Name"
        onChange={(name) => onChange({ ...child, name })}
        hint="The agent starts it by this name."
      />
      <Field
        {...field('prompt')}
        label="Prompt"
        rows={4}
        onChange={(prompt) => onChange({ ...child, prompt })}
        hint="The whole of what it is told."
      />
      <Field
        {...field('expected_return')}
        label="Expected return"
        optional
        rows={2}
        onChange={(value) => onChange(withField(child, 'expected_return', value))}
        hint="It is told to return this."
      />
      <div className="grid gap-3 sm:grid-cols-3">
        <Choice
          id={`plan-children-${at}-environment`}
          label="Environment"
          value={child.environment ?? ''}
          options={environments.options}
          onChange={(value) => onChange(withField(child, 'environment', value))}
        />
        <Choice
          id={`plan-children-${at}-harness`}
          label="Harness"
          value={child.harness ?? ''}
          options={harnesses}
          onChange={(value) => onChange(withField(child, 'harness', value))}
        />
        <Field
          {...field('model_id')}
          label="Model"
          optional
          onChange={(value) => onChange(withField(child, 'model_id', value))}
          hint="As all children when empty."
        />
      </div>
    </div>
  )
}
