/**
 * What a run is worked on with, from what its maker said to what its runner is given.
 *
 *     what was asked for  >  its agent identity's defaults  >  what its parent hands down     configureRun
 *       + the environment that this names, as it stands when an execution is made             configureExecution
 *
 * Of the first line the nearest that names a field gives it, whole. That is settled once, when the run is made, and
 * stands on its row. The environment is joined in for each execution anew and frozen with it: an edit reaches no
 * execution that has been made, and every later one (a retry, a wake).
 */
import type { Kysely } from 'kysely'
import {
  type AgentConfig,
  type CreateRun,
  Fault,
  type FrozenEnvironment,
  type HarnessChoice,
  harnessOf,
  type McpServer,
  pointerOf,
  type Repository,
  skillNameOf,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Owned } from './caller.ts'
import { findEnvironment } from './environments.ts'
import { defaultsOf, findIdentity } from './identities.ts'
import { checkStores } from './memory-owners.ts'
import { settleSecrets } from './secret-giving.ts'

/** Said of a run, and kept in its configuration; they are no child's. */
const FLAGS = ['snapshot_disabled', 'interactive', 'orchestration_handoff'] as const

export type Asked = Pick<
  CreateRun,
  'prompt' | 'skill' | 'config' | 'agent_identity_uid' | 'placement' | 'conversation_id' | (typeof FLAGS)[number]
> & {
  /** Who asks works on it, where they are. */
  local?: boolean
}
export type Parent = { config: AgentConfig; identity_uid: string | null }
export type Configured = { config: AgentConfig; identity_uid: string | null }

/** For a run that is so owned. Throws the fault that names what is wrong or missing, before a row is made for it. */
export async function configureRun(
  db: Kysely<Tables>,
  owned: Owned,
  asked: Asked,
  parent?: Parent,
): Promise<Configured> {
  checkPlace(asked)
  const own = await ownSettings(db, owned, asked)
  await checkStores(db, owned, { stores: own.memory_stores ?? [], pointer: '/config/memory_stores' })
  const identity = asked.agent_identity_uid ? await findIdentity(db, owned, asked.agent_identity_uid) : null
  const defaults = identity === null ? {} : await defaultsOf(db, identity)
  const said = over(own, defaults)
  const joined = settle(over(said, parent === undefined ? {} : handedDown(parent.config)))
  checkRunnable(asked, joined)
  const config = await settleSecrets(db, owned, joined, { said, parent: parent?.config, local: asked.local ?? false })
  const inherited = asked.agent_identity_uid === undefined ? (parent?.identity_uid ?? null) : null
  return { config, identity_uid: identity?.identity_uid ?? inherited }
}

/** The run's own repositories, commands and variables come on top of the environment's, or replace what is the same. */
export function configureExecution(config: AgentConfig, environment: FrozenEnvironment | null): AgentConfig {
  if (environment === null) return config
  const { repositories = [], setup_commands = [], variables = {} } = config.environment ?? {}
  return {
    ...config,
    environment: {
      repositories: joinRepositories(environment.repositories, repositories),
      setup_commands: [...environment.setup_commands, ...setup_commands],
      variables: { ...environment.variables, ...variables },
    },
    mcp_servers: { ...environment.mcp_servers, ...config.mcp_servers },
  }
}

/** As asked for, without what was left empty, with its skills under one name and its environment by uid. */
export async function ownSettings(db: Kysely<Tables>, owned: Owned, asked: Asked): Promise<AgentConfig> {
  const { skill_spec, skills, environment_id, ...rest } = asked.config ?? {}
  if (skill_spec && skills !== undefined && skills[0] !== skill_spec) {
    throw new Fault('invalid_request', 'Give either config.skill_spec or config.skills, not both.', {
      errors: [{ pointer: '/config/skill_spec', detail: 'config.skills is given, too' }],
    })
  }
  const named = asked.skill !== undefined ? [asked.skill] : (skills ?? (skill_spec ? [skill_spec] : undefined))
  const environment = environment_id ? await findEnvironment(db, owned, environment_id) : null
  return {
    ...filledIn(rest),
    ...(named === undefined ? {} : { skills: named }),
    ...Object.fromEntries(FLAGS.flatMap((flag) => (asked[flag] ? [[flag, true]] : []))),
    ...(environment_id === undefined ? {} : { environment_id: environment?.environment_uid ?? null }),
  }
}

/** Forms send what nobody filled in as empty text: it says nothing. */
const filledIn = (config: AgentConfig): AgentConfig =>
  Object.fromEntries(Object.entries(config).filter(([, value]) => value !== ''))

/** The nearer goes first. A model belongs to its harness, and what a run adds to an environment to that environment. */
function over(near: AgentConfig, far: AgentConfig): AgentConfig {
  const { model_id, harness, environment_id, environment, ...rest } = far
  const same_harness = !near.harness || harnessOf(near) === harnessOf(far)
  const model_given = near.model_id !== undefined || Boolean(near.harness?.model_id)
  const merged: AgentConfig = { ...rest, ...near }
  if (same_harness) {
    if (near.model_id === undefined && model_id !== undefined) merged.model_id = model_id
    if (harness) {
      const { model_id: harness_model, ...without_model } = harness
      const kept = model_given ? without_model : { ...without_model, model_id: harness_model }
      merged.harness = { ...kept, ...near.harness, type: near.harness?.type ?? harness.type }
    }
  }
  if (near.environment_id === undefined) {
    if (environment_id !== undefined) merged.environment_id = environment_id
    if (environment !== undefined && near.environment === undefined) merged.environment = environment
  }
  return merged
}

/** Of its parent a child has all but what is the parent's own task: its name, its instructions, its place. */
function handedDown(parent: AgentConfig): AgentConfig {
  const { name: _name, base_prompt: _base, worker_host: _host, skills: _skills, skill_spec: _spec, ...task } = parent
  for (const flag of FLAGS) delete task[flag]
  return task
}

/** Without what says "none", as it is answered. */
export function settle({ environment_id, harness, skills, ...config }: AgentConfig): AgentConfig {
  const [first] = skills ?? []
  return {
    ...config,
    ...(environment_id ? { environment_id } : {}),
    ...(harness ? { harness: named(harness) } : {}),
    ...(first === undefined ? {} : { skill_spec: first, skills, name: config.name ?? skillNameOf(first) }),
  }
}

const named = ({ type, model_id, reasoning_level }: HarnessChoice): HarnessChoice => ({
  type,
  ...(model_id ? { model_id } : {}),
  ...(reasoning_level ? { reasoning_level } : {}),
})

/** Beside its parent a run has the parent's files; it cannot have others. */
function checkPlace({ placement, config, agent_identity_uid }: Asked): void {
  if (placement !== 'parent') return
  const refuse = (what: string, pointer: string) =>
    new Fault('invalid_request', `${what} A child beside its parent works in the parent's place and name.`, {
      errors: [{ pointer, detail: 'not beside the parent' }],
    })
  if (config?.environment_id)
    throw refuse('Leave out the environment, or start it on a worker.', '/config/environment_id')
  if (agent_identity_uid) throw refuse('Leave out the agent identity, or start it on a worker.', '/agent_identity_uid')
}

function checkRunnable({ prompt = '', conversation_id }: Asked, config: AgentConfig): void {
  const { skills = [] } = config
  // An agent may go on with a conversation as it stands; a plain command has nothing to go on with.
  const goes_on = conversation_id !== undefined && harnessOf(config) !== 'command'
  if (prompt.trim() === '' && skills.length === 0 && !goes_on) {
    throw new Fault('invalid_request', 'A run needs a prompt or a skill.', {
      errors: [{ pointer: '/prompt', detail: 'Give a prompt that is not empty.' }],
    })
  }
  if (skills.length > 0 && harnessOf(config) === 'command') {
    throw new Fault('invalid_request', 'A plain command follows no skill: leave out the skills, or name a harness.', {
      errors: [{ pointer: '/config/skills', detail: 'not with the harness command' }],
    })
  }
  checkMcpServers(config.mcp_servers ?? {}, '/config/mcp_servers')
}

export function checkMcpServers(servers: Record<string, McpServer>, pointer: string): void {
  for (const [name, server] of Object.entries(servers)) {
    if ('warp_id' in server)
      throw new Fault(
        'invalid_request',
        `MCP server ${name}: warp_id names a server that is stored at Warp; give a url or a command.`,
        { errors: [{ pointer: pointer + pointerOf([name]), detail: 'give url or command' }] },
      )
    if ('command' in server && server.command.trim() === '')
      throw new Fault('invalid_request', `MCP server ${name}: its command is empty.`, {
        errors: [{ pointer: pointer + pointerOf([name, 'command']), detail: 'say which program' }],
      })
  }
}

/** One that the environment has, too, by address or by folder, takes its place: so a run names another branch. */
function joinRepositories(shared: Repository[], own: Repository[]): Repository[] {
  const is_same = (a: Repository, b: Repository) => folderOf(a) === folderOf(b) || plainUrl(a.url) === plainUrl(b.url)
  const kept = shared.map((repository) => {
    const mine = own.find((one) => is_same(one, repository))
    const { directory } = repository
    return mine === undefined ? repository : { ...(directory === undefined ? {} : { directory }), ...mine }
  })
  return [...kept, ...own.filter((one) => !shared.some((repository) => is_same(one, repository)))]
}

const plainUrl = (url: string): string => url.replace(/\/+$/, '').replace(/\.git$/, '')
const folderOf = ({ url, directory }: Repository): string =>
  directory ?? plainUrl(url).split(/[/:]/).at(-1) ?? plainUrl(url)
