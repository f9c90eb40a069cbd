import type { Command } from 'commander'
import { z } from 'zod'
import { Approval, type Plan, PlanConfig } from '../../contract/index.ts'
import { askYes } from '../ask.ts'
import { readConfigFile } from '../asking.ts'
import { type Context, clientOf, type Given } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { planLines, readPlan, VERSION_OPTION, versionOf } from '../plans.ts'

const collect = (value: string, before: string[] = []) => [...before, value]

export function declare(command: Command): void {
  command
    .argument('<run>', 'the run whose plan is approved')
    .option(...VERSION_OPTION)
    .option('--message <text>', 'told to the agent along with the approval')
    .option('-f, --file <file>', 'JSON or YAML with document, children or config as they should be')
    .option('--remove <agent>', 'leave out the agent of this name; may be repeated', collect)
    .option('--model <id>', 'model of all agents')
    .option('--harness <name>', 'harness of all agents')
    .option('-e, --environment <id>', 'environment of all agents')
    .option('--host <worker>', 'where all agents run: worker, sandbox, or the name of a worker')
    .option('--parallelism <n>', 'so many agents work at a time')
    .option('-y, --yes', 'do not show the plan and ask')
    .addHelpText('after', '\nOn a terminal the plan is shown first. What is edited becomes a version of its own.')
}

const Options = z.object({
  planVersion: z.string().optional(),
  message: z.string().optional(),
  file: z.string().optional(),
  remove: z.array(z.string()).default([]),
  model: z.string().optional(),
  harness: z.string().optional(),
  environment: z.string().optional(),
  host: z.string().optional(),
  parallelism: z.coerce.number('--parallelism is a number').int().min(1).optional(),
  yes: z.boolean().default(false),
})
type Options = z.infer<typeof Options>

export async function run(context: Context, given: Given): Promise<void> {
  const parsed = Options.safeParse(given.options)
  if (!parsed.success) throw new CommandFailure('usage', `${parsed.error.issues[0]?.message ?? 'Wrong option'}.`)
  const o = parsed.data
  const client = clientOf(context)
  const run_id = given.args[0] ?? ''
  const plan = await readPlan(context, client, run_id, versionOf(o.planVersion))
  const body = await approvalOf(context, plan, o)
  if (context.interactive && !o.yes && plan.state === 'proposed') {
    for (const line of planLines({ ...plan, ...without(body) }, context.out.width)) context.out.note(line)
    if (!(await askYes(context, `Approve version ${plan.version}?`))) {
      throw new CommandFailure('interrupted', 'Nothing was answered; the plan still waits.')
    }
  }
  const approved = await client.plans.approve({
    params: { run_id, version: plan.version },
    body,
    signal: context.signal,
  })
  await context.out.show(approved, () => [
    `Version ${approved.version} is approved. See it go on: baton run watch ${run_id}`,
  ])
}

const without = ({ message: _message, ...edits }: Approval): Partial<Plan> =>
  Object.fromEntries(Object.entries(edits).filter(([, value]) => value !== undefined))

async function approvalOf(context: Context, plan: Plan, o: Options): Promise<Approval> {
  const file = o.file === undefined ? {} : await readConfigFile(context, o.file, Approval)
  const settings = PlanConfig.safeParse({
    ...plan.config,
    ...file.config,
    ...(o.model === undefined ? {} : { model_id: o.model }),
    ...(o.harness === undefined ? {} : { harness: o.harness }),
    ...(o.environment === undefined ? {} : { environment: o.environment }),
    ...(o.host === undefined ? {} : { where: o.host }),
    ...(o.parallelism === undefined ? {} : { parallelism: o.parallelism }),
  })
  if (!settings.success) {
    const [issue] = settings.error.issues
    throw new CommandFailure('usage', `${issue?.path.join('.')}: ${issue?.message}`)
  }
  const children = file.children ?? plan.children
  const kept = children.filter((child) => !o.remove.some((name) => plain(name) === plain(child.name)))
  const missing = o.remove.find((name) => !children.some((child) => plain(child.name) === plain(name)))
  if (missing !== undefined) {
    throw new CommandFailure(
      'usage',
      `The plan has no agent ${missing}: ${children.map((one) => one.name).join(', ')}.`,
    )
  }
  return {
    ...(file.document === undefined ? {} : { document: file.document }),
    children: kept,
    config: settings.data,
    ...(o.message === undefined ? {} : { message: o.message }),
  }
}

const plain = (name: string): string => name.trim().toLowerCase()
