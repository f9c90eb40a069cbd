import type { McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { NO_ENVIRONMENT, SpawnChild } from '../../contract/index.ts'
import { answer, answerOrSay, keyOf, sentenceOf, type ToolRoom } from './call.ts'
import { isLoose, type Loose, listOf, pick, present, shown, shownAs, unpack } from './liberal.ts'

/** Agents of one call; a team's own limits may be lower. */
const AGENTS_MAX = 200

const DESCRIPTION = `Start other agents that work at the same time as you, each on its own part of the task. Use \
it when the work falls into parts that do not wait for one another; do small or strictly sequential work yourself. \
Start all agents of one round in ONE call.

Each agent is a new session that knows nothing of this conversation: it gets base_prompt, a blank line, then its \
own prompt. Say in them what to do, what "done" means, what to leave alone, and to send you the result with \
send_message_to_agent (address "parent") before it ends.

You get one result for each agent, in the order of your list: launched (with its agent_id), already_running (an \
agent of yours with this name is at work: nothing new was started; write to it with send_message_to_agent), or \
failed (with the reason; the others were started all the same). This call returns at once and does not wait for \
their work. Next: go on with your own part, or call wait_for_events.`

const Where = z
  .string()
  .max(256)
  .describe(
    '"worker": a fresh place of its own (default). "sandbox": beside you, working on your own files. ' +
      'Any other word: the worker of that name.',
  )
const Harness = z
  .string()
  .max(64)
  .describe('Which agent program: oz, claude, codex, gemini, opencode, or command (the prompt is a shell command).')
const Model = z.string().max(256).describe("The model's id. Leave it out for the default.")

const Environment = z
  .string()
  .max(128)
  .describe(
    'The environment to work in, by name or id: its repositories, set up. "none": an empty place. ' +
      'Leave it out: the same as yours. Has no effect in "sandbox".',
  )
const Skills = z
  .array(z.string())
  .describe('Skills to follow, from the repositories of its environment: "name", "repo:name" or "org/repo:name".')

const AgentConfigs = z
  .array(
    z.object({
      name: SpawnChild.shape.name.describe('Short and telling, such as "auth-tests". One running agent per name.'),
      prompt: SpawnChild.shape.prompt.describe('What this agent alone is to do. Only with skills it may be left out.'),
      title: z.string().max(512).optional().describe('One line for people; the name where absent.'),
      harness_type: Harness.optional(),
      model_id: Model.optional(),
      where: Where.optional(),
      environment_id: Environment.optional(),
      agent_identity_uid: z
        .string()
        .max(128)
        .optional()
        .describe('The agent identity that it works as, by id or name: its model, instructions and environment.'),
      skills: Skills.optional(),
    }),
  )
  .min(1)
  .max(AGENTS_MAX)

const Input = z.object({
  base_prompt: z.string().optional().describe('What all agents need to know: put before the prompt of each.'),
  agent_run_configs: AgentConfigs.describe('The agents, in the order in which the results come.'),
  harness_type: Harness.optional().describe(
    'For all agents that do not say their own. Leave it out: the same as yours.',
  ),
  model_id: Model.optional(),
  where: Where.optional(),
  environment_id: Environment.optional(),
  skills: Skills.optional(),
})
type Input = z.infer<typeof Input>

const Launched = z.object({
  name: z.string(),
  status: z.enum(['launched', 'already_running', 'failed']),
  agent_id: z.string().optional().describe('Its run id; present unless it failed.'),
  error: z.string().optional(),
})
type Launched = z.infer<typeof Launched>

const Output = z.object({
  agents: z.array(Launched),
  ignored: z.array(z.string()).describe('Parameters that were given and have no effect here.'),
  advice: z.string().optional(),
})

const RUN_AGENTS = {
  inputSchema: shownAs(Input, z.preprocess(readInput, Input.extend({ ignored: z.array(z.string()) }))),
  outputSchema: shown(Output),
}

/** What callers of the public tool may send besides, and what of it says where. `summary` is for people who approve. */
const UNUSED = ['plan_id', 'runner_id', 'computer_use_enabled']

export function addRunAgents(server: McpServer, its: ToolRoom): void {
  server.registerTool(
    'run_agents',
    {
      title: 'Start agents',
      description: DESCRIPTION,
      ...RUN_AGENTS,
      annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: true },
    },
    ({ ignored, ...asked }, ctx) =>
      answerOrSay(its, async () => {
        const agents = await spawn(its, asked, keyOf(its, ctx, 'run_agents', asked))
        if (agents.every((agent) => agent.status === 'failed'))
          return { ...answer({ agents, ignored }, textOf(agents, ignored)), isError: true }
        const advice = adviceOn(agents)
        return answer({ agents, ignored, advice }, `${textOf(agents, ignored)}\n${advice}`)
      }),
  )
}

async function spawn({ room, caller }: ToolRoom, asked: Input, key: string): Promise<Launched[]> {
  const spawned = await room.engine.trees.spawn(caller, {
    base_prompt: asked.base_prompt,
    key,
    children: asked.agent_run_configs.map(({ harness_type, ...own }) => {
      const where = own.where ?? asked.where
      const for_all = where === 'sandbox' ? undefined : asked.environment_id
      return SpawnChild.parse(
        present({
          ...own,
          harness: harness_type ?? asked.harness_type,
          model_id: own.model_id ?? asked.model_id,
          where,
          environment_id: orNone(own.environment_id ?? for_all),
          agent_identity_uid: orNone(own.agent_identity_uid),
          skills: own.skills ?? asked.skills,
        }),
      )
    }),
  })
  return spawned.map((one): Launched => {
    if ('fault' in one) return { name: one.name, status: 'failed', error: sentenceOf(one.fault) }
    return { name: one.name, status: one.already ? 'already_running' : 'launched', agent_id: one.run_id }
  })
}

/** Null says "none" where saying nothing says "the same as yours". */
const orNone = (named: string | undefined): string | null | undefined =>
  named !== undefined && NO_ENVIRONMENT.includes(named.trim().toLowerCase()) ? null : named

function adviceOn(agents: Launched[]): string {
  const wait = 'When you have nothing to do until they answer, call wait_for_events.'
  const known = agents.some((agent) => agent.status === 'already_running')
  return known ? `Message an agent that is already at work instead of starting it again. ${wait}` : wait
}

function textOf(agents: Launched[], ignored: string[]): string {
  const lines = agents.map((agent) => {
    if (agent.status === 'failed') return `- ${agent.name}: not started. ${agent.error}`
    if (agent.status === 'launched') return `- ${agent.name}: started, agent_id ${agent.agent_id}`
    return `- ${agent.name}: already at work, agent_id ${agent.agent_id}`
  })
  if (ignored.length > 0) lines.push(`Without effect here: ${ignored.join(', ')}.`)
  return lines.join('\n')
}

/** The public tool's parameters and what models make of them, as `Input`. */
function readInput(given: unknown): unknown {
  const asked = unpack(given)
  if (!isLoose(asked)) return asked
  const mode = readMode(pick(asked, 'execution_mode'))
  const configs = listOf(pick(asked, 'agent_run_configs', 'agents', 'children'))
  const named = Array.isArray(configs) ? configs.filter(isLoose) : []
  const ignored = UNUSED.filter((name) =>
    [asked, mode.remote, ...named].some((one) => pick(one, name) !== undefined && pick(one, name) !== false),
  )
  return present({
    base_prompt: pick(asked, 'base_prompt'),
    agent_run_configs: Array.isArray(configs) ? configs.map(readConfig) : configs,
    harness_type: pick(asked, 'harness_type', 'harness'),
    model_id: pick(asked, 'model_id', 'model'),
    where: pick(asked, 'where', 'location') ?? mode.where,
    environment_id: pick(asked, 'environment_id', 'environment') ?? pick(mode.remote, 'environment_id'),
    skills: listOf(pick(asked, 'skills', 'skill')),
    ignored,
  })
}

function readConfig(given: unknown): unknown {
  const config = unpack(given)
  if (!isLoose(config)) return config
  const mode = readMode(pick(config, 'execution_mode'))
  return present({
    name: pick(config, 'name'),
    prompt: pick(config, 'prompt', 'task'),
    title: pick(config, 'title'),
    harness_type: pick(config, 'harness_type', 'harness'),
    model_id: pick(config, 'model_id', 'model'),
    where: pick(config, 'where', 'location') ?? mode.where,
    environment_id: pick(config, 'environment_id', 'environment') ?? pick(mode.remote, 'environment_id'),
    agent_identity_uid: pick(config, 'agent_identity_uid', 'agent_identity', 'identity'),
    skills: listOf(pick(config, 'skills', 'skill')),
  })
}

/** `Local`, `Remote`, `{Remote: {worker_host}}` or `{type: 'remote', worker_host}`. */
function readMode(given: unknown): { where: string | undefined; remote: Loose } {
  if (typeof given === 'string') return { where: placeOf(given, {}), remote: {} }
  if (!isLoose(given)) return { where: undefined, remote: {} }
  const named = pick(given, 'type', 'mode')
  const [name, remote] =
    typeof named === 'string'
      ? [named, given]
      : (Object.entries(given).find(([key]) => placeOf(key, {}) !== undefined) ?? ['Remote', given])
  const parts = isLoose(remote) ? remote : {}
  return { where: placeOf(name, parts), remote: parts }
}

function placeOf(mode: string, remote: Loose): string | undefined {
  if (mode.toLowerCase() === 'local') return 'sandbox'
  if (mode.toLowerCase() !== 'remote') return undefined
  const host = pick(remote, 'worker_host')
  return typeof host === 'string' && host !== 'warp' ? host : 'worker'
}
