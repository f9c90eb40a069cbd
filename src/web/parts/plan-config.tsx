/** What every child of a plan gets: six choices, each of which may be left as the run itself has it. */
import { harnessOf, type PlanConfig, type Run } from '../../contract/index.ts'
import { withField } from '../data/plan-draft.ts'
import { harnessWord } from '../words.ts'
import { Choice } from './choice.tsx'
import { useEnvironmentOptions, useHarnessOptions, useWorkerOptions } from './choices.ts'
import { Field } from './field.tsx'

type Props = {
  run: Run
  config: PlanConfig
  onChange: (config: PlanConfig) => void
  wrong: Record<string, string>
}

export function PlanConfigFields({ run, config, onChange, wrong }: Props) {
  const harnesses = useHarnessOptions(`As this run: ${harnessWord(harnessOf(run.agent_config))}`)
  const environments = useEnvironmentOptions(`As this run: ${run.environment?.name ?? 'its own'}`)
  const workers = useWorkerOptions()
  const set = <K extends keyof PlanConfig>(key: K, value: PlanConfig[K] | undefined) =>
    onChange(withField(config, key, value))
  const parallelism = config.parallelism
  const model = run.agent_config.model_id ?? run.agent_config.harness?.model_id
  return (
    <fieldset className="rounded-xl border border-line p-4">
      <legend className="px-1 font-semibold">For all children</legend>
      <div className="grid gap-4 sm:grid-cols-2 xl:grid-cols-3">
        <Field
          id="plan-config-model_id"
          label="Model"
          optional
          value={config.model_id ?? ''}
          onChange={(value) => set('model_id', value)}
          hint={model === undefined ? 'The harness chooses when empty.' : `As this run when empty: ${model}.`}
          wrong={wrong['config.model_id']}
        />
        <Choice
          id="plan-config-harness"
          label="Harness"
          value={config.harness ?? ''}
          options={harnesses}
          onChange={(value) => set('harness', value)}
          wrong={wrong['config.harness']}
        />
        <Choice
          id="plan-config-environment"
          label="Environment"
          value={config.environment ?? ''}
          options={environments.options}
          onChange={(value) => set('environment', value)}
          {...(environments.failed && { hint: 'The environments could not be read.' })}
          wrong={wrong['config.environment']}
        />
        <Choice
          id="plan-config-where"
          label="Host"
          value={config.where ?? ''}
          options={[
            ['', 'As the agent asks'],
            ['worker', 'Any worker'],
            ['sandbox', 'Beside this run, in its sandbox'],
            ...workers,
          ]}
          onChange={(value) => set('where', value)}
          wrong={wrong['config.where']}
        />
        <Field
          id="plan-config-parallelism"
          label="Parallelism"
          optional
          inputMode="decimal"
          value={parallelism === undefined ? '' : String(parallelism)}
          onChange={(value) => {
            const digits = value.replace(/\D/g, '')
            set('parallelism', digits === '' ? undefined : Number(digits))
          }}
          hint="So many are at work at a time; no limit when empty."
          wrong={wrong['config.parallelism']}
        />
        <Choice
          id="plan-config-auth"
          label="Access to models"
          value={config.auth ?? ''}
          options={[
            ['', 'As this run'],
            ['inherit', "Inherit this run's access"],
          ]}
          onChange={(value) => set('auth', value)}
          wrong={wrong['config.auth']}
        />
      </div>
    </fieldset>
  )
}

const WORDS: Record<keyof PlanConfig, string> = {
  model_id: 'Model',
  harness: 'Harness',
  environment: 'Environment',
  where: 'Host',
  parallelism: 'Parallelism',
  auth: 'Access to models',
}

/** The same of a version that is no longer open. */
export function PlanConfigFacts({ config }: { config: PlanConfig }) {
  const names = (Object.keys(WORDS) as (keyof PlanConfig)[]).filter((name) => config[name] !== undefined)
  if (names.length === 0) return <p className="text-soft">Children are as this run in all that the plan leaves open.</p>
  return (
    <dl className="flex flex-wrap gap-x-6 gap-y-1 text-sm">
      {names.map((name) => (
        <div key={name}>
          <dt className="text-soft">{WORDS[name]}</dt>
          <dd className="font-medium wrap-anywhere">
            {name === 'harness' ? harnessWord(String(config[name])) : String(config[name])}
          </dd>
        </div>
      ))}
    </dl>
  )
}
