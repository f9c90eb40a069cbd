/** Plans as a person reads them, and which version a command means. */
import type { Plan } from '../contract/index.ts'
import type { Client } from '../sdk/client.ts'
import type { Context } from './context.ts'
import { CommandFailure } from './exits.ts'
import { paint } from './output.ts'
import { ago, alignColumns, oneLine, plural } from './text.ts'

const STATE_WORDS: Record<Plan['state'], string> = {
  proposed: paint.yellow('waits for an answer'),
  approved: paint.green('approved'),
  changes_requested: 'sent back for changes',
  rejected: paint.red('rejected'),
  superseded: paint.dim('replaced'),
}

export function planLines(plan: Plan, width?: number): string[] {
  const { children, config } = plan
  const settings = Object.entries(config).map(([name, value]) => [`  ${name}`, oneLine(String(value))])
  return [
    `${paint.bold(oneLine(plan.title))}  version ${plan.version}, ${STATE_WORDS[plan.state]}${answerOf(plan)}`,
    ...(plan.author === 'person' ? [paint.dim('Edited by the person who approved it.')] : []),
    '',
    ...plan.document.trimEnd().split('\n'),
    '',
    children.length === 0 ? 'It starts no agents.' : paint.bold(`${plural(children.length, 'agent')}:`),
    ...(children.length === 0
      ? []
      : alignColumns(
          [
            ['  NAME', 'HARNESS', 'ENVIRONMENT', 'PROMPT', 'RETURNS'].map(paint.dim),
            ...children.map((child) => [
              `  ${oneLine(child.name)}`,
              child.harness ?? config.harness ?? '',
              oneLine(child.environment ?? config.environment ?? ''),
              oneLine(child.prompt),
              oneLine(child.expected_return ?? ''),
            ]),
          ],
          width,
        )),
    ...(settings.length === 0 ? [] : [paint.bold('For all of them:'), ...alignColumns(settings)]),
  ]
}

function answerOf({ decided_by, words }: Plan): string {
  const who = decided_by?.display_name === undefined ? '' : ` by ${oneLine(decided_by.display_name)}`
  return who + (words === null ? '' : `: ${oneLine(words)}`)
}

export function openPlanLines(plans: (Plan & { run_title: string })[], now: number, width?: number): string[] {
  const rows = plans.map((plan) => [
    plan.run_id,
    String(plan.version),
    ago(plan.created_at, now),
    String(plan.children.length),
    oneLine(plan.title || plan.run_title),
  ])
  return alignColumns([['RUN', 'VERSION', 'SINCE', 'AGENTS', 'TITLE'].map(paint.dim), ...rows], width)
}

/** What is to be done with a plan that waits. */
export const answerLines = ({ run_id, version }: Plan): string[] => [
  `Answer with: baton run approve ${run_id} --plan-version ${version}`,
  `         or: baton run revise ${run_id} "what to change"`,
  `         or: baton run reject ${run_id}`,
]

/** The version that was named, else the one that waits now. */
export async function readPlan(
  context: Context,
  client: Client,
  run_id: string,
  version: number | undefined,
): Promise<Plan> {
  const { plans } = await client.plans.ofRun({ params: { run_id }, signal: context.signal })
  const found = version === undefined ? plans[0] : plans.find((plan) => plan.version === version)
  if (found !== undefined) return found
  throw new CommandFailure(
    'not_found',
    version === undefined
      ? `Run ${run_id} has proposed no plan.`
      : `Run ${run_id} has no version ${version} of a plan.`,
  )
}

export function versionOf(given: unknown): number | undefined {
  if (given === undefined) return undefined
  const version = Number(given)
  if (Number.isInteger(version) && version > 0) return version
  throw new CommandFailure('usage', `--plan-version "${String(given)}" is no version.`, 'Versions are 1, 2, 3…')
}

export const VERSION_OPTION = ['--plan-version <n>', 'the version that is answered; the newest where absent'] as const
