import type { Command } from 'commander'
import { z } from 'zod'
import {
  AgentConfig,
  API_PREFIX,
  CATCH_UPS,
  CreateSchedule,
  OVERLAP_POLICIES,
  PROMPT_BYTES_MAX,
  ReplaceSchedule,
  RUN_MODES,
  type Schedule,
  scheduleRoutes,
  skillNameOf,
} from '../../contract/index.ts'
import { askedRun, mcpServers, readConfigFile } from '../asking.ts'
import type { CommandModule } from '../commands.ts'
import { bodyOf, type Context, clientOf, readAll } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { collect } from '../named.ts'
import { findSchedule, scheduleLines, scheduleTable } from '../schedules.ts'
import { declareScope } from '../scope.ts'
import { parseDuration } from '../text.ts'

export const create: CommandModule = {
  declare: (command) => {
    command
      .requiredOption('--name <name>', 'its name')
      .requiredOption('--cron <cron>', 'minute, hour, day of month, month, day of week: "0 9 * * 1-5"')
    declareScope(declareParts(command))
      .option('--no-environment', 'none')
      .option('--paused', 'make no runs before it is resumed')
      .addHelpText(
        'after',
        `
Examples:
  baton schedule --name audit --cron "0 9 * * 1" -p "Audit the dependencies" -e app
  baton schedule --name triage --cron "*/30 8-18 * * 1-5" --time-zone Europe/Berlin --skill triage --overlap queue`,
      )
  },
  async run(context, { options }) {
    const o = Options.parse(options)
    // What its runs are asked for, as `agent run-cloud` reads it; the name is the schedule's.
    const asked = await askedRun(context, { ...options, name: undefined }, undefined)
    const { prompt, config, agent_identity_uid, mode, team } = asked
    const body = checked(CreateSchedule, {
      name: o.name,
      cron_schedule: o.cron,
      ...(prompt === undefined ? {} : { prompt }),
      agent_config: config,
      ...(agent_identity_uid ? { agent_uid: agent_identity_uid } : {}),
      ...(mode === undefined ? {} : { mode }),
      ...(team === undefined ? {} : { team }),
      enabled: !o.paused,
      ...ours(o),
    })
    await show(context, await clientOf(context).schedules.create({ body, signal: context.signal }))
  },
}

export const list: CommandModule = {
  declare: () => {},
  async run(context) {
    const { out, signal } = context
    const body = await bodyOf(await clientOf(context).raw('GET', API_PREFIX + scheduleRoutes.list.path, { signal }))
    const { schedules } = scheduleRoutes.list.answer.parse(body)
    const table = out.machine ? [] : await scheduleTable(schedules, Date.now(), out.width)
    await out.show(
      body,
      () => table,
      () => schedules,
    )
    if (schedules.length === 0 && !out.machine)
      out.note('No schedules. Make one with: baton schedule --name NAME --cron "0 9 * * 1-5" -p "what is to be done"')
  },
}

export const get: CommandModule = {
  declare: (command) => void command.argument('<schedule>', 'id or name'),
  run: async (context, given) => show(context, await findSchedule(context, given)),
}

export const update: CommandModule = {
  declare: (command) => {
    command
      .argument('<schedule>', 'id or name')
      .option('--name <name>', 'another name')
      .option('--cron <cron>', 'other times')
    declareParts(command)
      .addOption(command.createOption('--remove-skill', 'no skills').conflicts('skill'))
      .addOption(command.createOption('--remove-environment', 'no environment').conflicts('environment'))
      .option('--remove-mcp <name>', 'an MCP server that it has; may be repeated', collect)
      .addOption(command.createOption('--remove-agent', 'no agent identity').conflicts('agent'))
  },
  async run(context, given) {
    const o = Options.parse(given.options)
    const schedule = await findSchedule(context, given)
    const { name = schedule.name, cron = schedule.cron_schedule } = o
    const prompt = (await givenPrompt(context, o)) ?? schedule.prompt
    const agent_uid = o.removeAgent ? undefined : (o.agent ?? schedule.agent_uid)
    const body = checked(ReplaceSchedule, {
      name,
      cron_schedule: cron,
      enabled: schedule.enabled,
      ...(prompt === '' ? {} : { prompt }),
      agent_config: await changedConfig(context, schedule.agent_config, o),
      ...(agent_uid === undefined ? {} : { agent_uid }),
      metadata: schedule.metadata,
      mode: o.mode ?? schedule.mode,
      ...ours(o),
    })
    const params = { schedule_id: schedule.id }
    await show(context, await clientOf(context).schedules.replace({ params, body, signal: context.signal }))
  },
}

export const pause: CommandModule = {
  declare: (command) => void command.argument('<schedule>', 'id or name'),
  async run(context, given) {
    const { id } = await findSchedule(context, given)
    const params = { schedule_id: id }
    const paused = await clientOf(context).schedules.pause({ params, signal: context.signal })
    await context.out.show(paused, () => [`Paused schedule ${paused.name}. Go on with: baton schedule unpause ${id}`])
  },
}

export const unpause: CommandModule = {
  declare: (command) => void command.argument('<schedule>', 'id or name'),
  async run(context, given) {
    const { id } = await findSchedule(context, given)
    const params = { schedule_id: id }
    await show(context, await clientOf(context).schedules.resume({ params, signal: context.signal }))
  },
}

export const takeOver: CommandModule = {
  declare: (command) =>
    void command
      .argument('<schedule>', 'id or name')
      .addHelpText('after', '\nIts next runs are yours. One whose maker has left the team goes on. It takes an admin.'),
  async run(context, given) {
    const { id } = await findSchedule(context, given)
    const params = { schedule_id: id }
    await show(context, await clientOf(context).schedules.takeOver({ params, signal: context.signal }))
  },
}

export const remove: CommandModule = {
  declare: (command) => void command.argument('<schedule>', 'id or name'),
  async run(context, given) {
    const { id, name } = await findSchedule(context, given)
    const answer = await clientOf(context).schedules.delete({ params: { schedule_id: id }, signal: context.signal })
    await context.out.show(answer, () => [`Deleted schedule ${name}. Its runs go on.`])
  },
}

function declareParts(command: Command): Command {
  return command
    .option('-p, --prompt <text>', 'what its runs are to do; - reads it from stdin')
    .option('--skill <spec>', 'skill that they follow: name, repo:name or org/repo:name; may be repeated', collect)
    .option('--model <id>', 'their model')
    .option('--harness <name>', 'the program that drives the model')
    .option('-e, --environment <environment>', 'uid or name of the environment that they work in')
    .option('-f, --file <file>', 'JSON or YAML file with their configuration; other options go before it')
    .option('--mcp <server>', 'MCP server: JSON, or a file with JSON; may be repeated', collect)
    .option('--host <worker>', 'the worker that takes them')
    .option('--agent <agent>', 'uid or name of the agent identity that works on them')
    .addOption(command.createOption('--mode <mode>', 'whether they propose a plan first').choices(RUN_MODES))
    .option('--time-zone <zone>', 'whose clock tells the times, such as Europe/Berlin; UTC where never given')
    .addOption(
      command
        .createOption('--overlap <policy>', 'what a time does while a run of an earlier one goes on')
        .choices(OVERLAP_POLICIES.map((policy) => policy.replaceAll('_', '-'))),
    )
    .option('--catch-up-window <duration>', 'how late a time that was missed still counts; 10m where never given')
    .addOption(command.createOption('--catch-up <which>', 'which of several missed times').choices(CATCH_UPS))
}

const Texts = z.array(z.string()).default([])
const Switch = z.boolean().default(false)
const Options = z.object({
  name: z.string().optional(),
  cron: z.string().optional(),
  prompt: z.string().optional(),
  skill: Texts,
  model: z.string().optional(),
  harness: z.string().optional(),
  environment: z.union([z.string(), z.boolean()]).optional(),
  file: z.string().optional(),
  mcp: Texts,
  host: z.string().optional(),
  agent: z.string().optional(),
  mode: z.enum(RUN_MODES).optional(),
  paused: Switch,
  timeZone: z.string().optional(),
  overlap: z.string().optional(),
  catchUpWindow: z.string().optional(),
  catchUp: z.string().optional(),
  removeSkill: Switch,
  removeEnvironment: Switch,
  removeMcp: Texts,
  removeAgent: Switch,
})
type Options = z.infer<typeof Options>

const ours = ({ timeZone, overlap, catchUpWindow, catchUp }: Options) => ({
  ...(timeZone === undefined ? {} : { time_zone: timeZone }),
  ...(overlap === undefined ? {} : { overlap_policy: overlap.replaceAll('-', '_') }),
  ...(catchUpWindow === undefined ? {} : { catch_up_window_minutes: wholeMinutes(catchUpWindow) }),
  ...(catchUp === undefined ? {} : { catch_up: catchUp }),
})

function wholeMinutes(text: string): number {
  const ms = parseDuration(text)
  if (ms === null)
    throw new CommandFailure('usage', `--catch-up-window "${text}" is no duration.`, 'Write it as 10m or 2h.')
  return Math.ceil(ms / 60_000)
}

async function givenPrompt(context: Context, { prompt }: Options): Promise<string | undefined> {
  return prompt === '-' ? readAll(context.stdin, PROMPT_BYTES_MAX, 'The prompt on stdin') : prompt
}

/** As it is to be; what is to go must be there. */
async function changedConfig(context: Context, config: AgentConfig, o: Options): Promise<AgentConfig> {
  const changed = { ...config, ...(o.file === undefined ? {} : await readConfigFile(context, o.file, AgentConfig)) }
  if (o.skill.length > 0 || o.removeSkill) {
    const [first] = changed.skills ?? []
    // It goes by the name of its skill where it has none of its own.
    if (first !== undefined && changed.name === skillNameOf(first)) delete changed.name
    delete changed.skill_spec
    delete changed.skills
    if (o.skill.length > 0) changed.skills = o.skill
  }
  if (o.model !== undefined) changed.model_id = o.model
  if (o.harness !== undefined) changed.harness = { type: o.harness }
  if (o.host !== undefined) changed.worker_host = o.host
  if (typeof o.environment === 'string') changed.environment_id = o.environment
  if (o.removeEnvironment) delete changed.environment_id
  if (o.mcp.length + o.removeMcp.length > 0) {
    const servers = { ...changed.mcp_servers }
    for (const name of o.removeMcp) {
      if (servers[name] === undefined)
        throw new CommandFailure('usage', `The schedule has no MCP server "${name}".`, 'See: baton schedule get.')
      delete servers[name]
    }
    changed.mcp_servers = { ...servers, ...(await mcpServers(context, o.mcp)) }
  }
  return changed
}

/** The server says the same; this is sooner, and names the option. */
function checked<T>(shape: z.ZodType<T>, body: unknown): T {
  const parsed = shape.safeParse(body)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const option: Record<string, string> = { cron_schedule: '--cron', time_zone: '--time-zone', name: '--name' }
  const where = option[String(issue?.path[0])] ?? issue?.path.join('.') ?? 'The schedule'
  throw new CommandFailure('usage', `${where}: ${issue?.message ?? 'not as it should be'}`)
}

async function show(context: Context, schedule: Schedule): Promise<void> {
  const lines = context.out.machine ? [] : await scheduleLines(schedule, Date.now())
  await context.out.show(schedule, () => lines)
}
