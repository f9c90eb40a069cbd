import type { Command } from 'commander'
import { z } from 'zod'
import type { EditIdentity, Identity } from '../../contract/index.ts'
import type { CommandModule } from '../commands.ts'
import { type Context, clientOf, type Given } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { collect, pickNamed } from '../named.ts'
import { paint } from '../output.ts'
import { declareScope, scopeOf } from '../scope.ts'
import { ago, alignColumns, oneLine } from '../text.ts'

export const list: CommandModule = {
  declare: (command) => {
    command
      .addOption(command.createOption('--sort-by <field>', 'created-at or name').choices(['created-at', 'name']))
      .addOption(command.createOption('--sort-order <order>', 'asc or desc').choices(['asc', 'desc']))
  },
  async run(context, { options }) {
    const answer = await clientOf(context).identities.list({ signal: context.signal })
    const agents = [...answer.agents]
    if (options.sortBy === 'name') agents.sort((a, b) => a.name.localeCompare(b.name))
    if (options.sortOrder === 'desc') agents.reverse()
    const now = Date.now()
    await context.out.show(
      { ...answer, agents },
      () => {
        const rows = agents.map(({ uid, name, created_at, harness, description }) => [
          uid,
          oneLine(name),
          ago(created_at, now),
          harness?.type ?? '',
          oneLine(description ?? ''),
        ])
        if (rows.length === 0) return []
        return alignColumns([['UID', 'NAME', 'CREATED', 'HARNESS', ''].map(paint.dim), ...rows], context.out.width)
      },
      () => agents,
    )
    if (agents.length === 0 && !context.out.machine)
      context.out.note('No agent identities. Make one with: baton agent create -n NAME --prompt "…"')
  },
}

export const get: CommandModule = {
  declare: (command) => void command.argument('<agent>', 'uid or name'),
  run: async (context, given) => show(context, await find(context, given)),
}

export const create: CommandModule = {
  declare: (command) => {
    declareParts(command.requiredOption('-n, --name <name>', 'its name'))
      .option('--secret <name>', 'a secret that it has; may be repeated', collect)
      .option('--skill <spec>', 'a skill that its runs follow; may be repeated', collect)
    declareScope(command)
  },
  async run(context, { options }) {
    const o = Options.parse(options)
    const body = {
      name: o.name ?? '',
      ...textsOf(o),
      ...scopeOf(options),
      skills: o.skill,
      ...(o.secret.length === 0 ? {} : { secrets: o.secret.map((name) => ({ name })) }),
    }
    await show(context, await clientOf(context).identities.create({ body, signal: context.signal }))
  },
}

export const update: CommandModule = {
  declare: (command) => {
    declareParts(command.argument('<agent>', 'uid or name').option('-n, --name <name>', 'another name'))
      .option('--add-secret <name>', 'another secret; may be repeated', collect)
      .option('--remove-secret <name>', 'a secret; may be repeated', collect)
      .option('--add-skill <spec>', 'another skill; may be repeated', collect)
      .option('--remove-skill <spec>', 'a skill, word for word; may be repeated', collect)
    for (const [flag, meaning, ...others] of REMOVALS)
      command.addOption(command.createOption(flag, meaning).conflicts(others))
  },
  async run(context, given) {
    const o = Options.parse(given.options)
    const { uid, ...agent } = await find(context, given)
    const skills = changed('skill', agent.skills, { add: o.addSkill, remove: o.removeSkill, clear: o.removeAllSkills })
    const secrets = changed(
      'secret',
      agent.secrets.map(({ name }) => name),
      { add: o.addSecret, remove: o.removeSecret, clear: o.removeAllSecrets },
    )
    const body: EditIdentity = {
      ...(o.name === undefined ? {} : { name: o.name }),
      ...textsOf(o),
      ...(o.removeDescription ? { description: '' } : {}),
      ...(o.removePrompt ? { prompt: '' } : {}),
      ...(o.removeBaseModel ? { base_model: '' } : {}),
      ...(o.removeHarness ? { harness: {} } : {}),
      ...(o.removeEnvironment ? { environment_id: '' } : {}),
      ...(o.removeHost ? { worker_host: '' } : {}),
      ...(skills === null ? {} : { skills }),
      ...(secrets === null ? {} : { secrets: secrets.map((name) => ({ name })) }),
    }
    const params = { identity_uid: uid }
    await show(context, await clientOf(context).identities.update({ params, body, signal: context.signal }))
  },
}

export const remove: CommandModule = {
  declare: (command) => void command.argument('<agent>', 'uid or name'),
  async run(context, given) {
    const { uid, name } = await find(context, given)
    await clientOf(context).identities.delete({ params: { identity_uid: uid }, signal: context.signal })
    await context.out.show({ uid, deleted: true }, () => [`Deleted agent ${name}. Its runs go on.`])
  },
}

/** Flag, meaning, and the options that say the opposite. */
const REMOVALS: [string, string, ...string[]][] = [
  ['--remove-description', 'no description', 'description'],
  ['--remove-prompt', 'no instructions', 'prompt'],
  ['--remove-base-model', 'no model', 'baseModel'],
  ['--remove-harness', 'no harness', 'harness'],
  ['--remove-environment', 'no environment', 'environment'],
  ['--remove-host', 'no worker', 'host'],
  ['--remove-all-secrets', 'no secrets', 'addSecret', 'removeSecret'],
  ['--remove-all-skills', 'no skills', 'addSkill', 'removeSkill'],
]

/** The list as it is to be; null: as it is. What is to go must be there. */
function changed(
  what: string,
  before: string[],
  { add, remove, clear }: { add: string[]; remove: string[]; clear: boolean },
): string[] | null {
  if (clear) return []
  if (add.length + remove.length === 0) return null
  const unknown = remove.find((one) => !before.includes(one))
  if (unknown !== undefined)
    throw new CommandFailure('usage', `The agent has no ${what} "${unknown}".`, 'See: baton agent get.')
  return [...new Set([...before.filter((one) => !remove.includes(one)), ...add])]
}

function declareParts(command: Command): Command {
  return command
    .option('--description <text>', 'what it is for')
    .option('--prompt <text>', 'instructions that go before the prompt of each of its runs')
    .option('--base-model <id>', 'its model')
    .option('--harness <name>', 'the program that drives the model')
    .option('-e, --environment <environment>', 'uid or name of the environment that it works in')
    .option('--host <worker>', 'the worker that takes its runs')
}

const Texts = z.array(z.string()).default([])
const Switch = z.boolean().default(false)
const Options = z.object({
  name: z.string().optional(),
  description: z.string().optional(),
  prompt: z.string().optional(),
  baseModel: z.string().optional(),
  harness: z.string().optional(),
  environment: z.string().optional(),
  host: z.string().optional(),
  secret: Texts,
  skill: Texts,
  removeDescription: Switch,
  removePrompt: Switch,
  removeBaseModel: Switch,
  removeHarness: Switch,
  removeEnvironment: Switch,
  removeHost: Switch,
  addSecret: Texts,
  removeSecret: Texts,
  addSkill: Texts,
  removeSkill: Texts,
  removeAllSkills: Switch,
  removeAllSecrets: Switch,
})
type Options = z.infer<typeof Options>

const textsOf = ({ description, prompt, baseModel, harness, environment, host }: Options) => ({
  ...(description === undefined ? {} : { description }),
  ...(prompt === undefined ? {} : { prompt }),
  ...(baseModel === undefined ? {} : { base_model: baseModel }),
  ...(harness === undefined ? {} : { harness: { type: harness } }),
  ...(environment === undefined ? {} : { environment_id: environment }),
  ...(host === undefined ? {} : { worker_host: host }),
})

async function find(context: Context, { args: [asked = ''] }: Given): Promise<Identity> {
  const { agents } = await clientOf(context).identities.list({ signal: context.signal })
  return pickNamed('agent', agents, asked, ({ name }) => name)
}

function show(context: Context, agent: Identity): Promise<void> {
  return context.out.show(agent, () => {
    const rows: [string, string | undefined | null][] = [
      ['Agent', agent.name],
      ['Uid', agent.uid],
      ['Description', agent.description],
      ['Instructions', agent.prompt],
      ['Harness', agent.harness?.type],
      ['Model', agent.base_model ?? agent.harness?.model_id],
      ['Environment', agent.environment_id],
      ['Worker', agent.worker_host],
      ['Skills', agent.skills.join(' ')],
      ['Secrets', agent.secrets.map(({ name }) => name).join(' ')],
      ['MCP servers', Object.keys(agent.mcp_servers).join(' ')],
      ['Changed', agent.updated_at],
    ]
    return rows.flatMap(([name, value]) => (value ? [`${paint.dim(name.padEnd(12))} ${oneLine(value)}`] : []))
  })
}
