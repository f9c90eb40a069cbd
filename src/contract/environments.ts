/**
 * Environments: named descriptions of where runs happen. Oz publishes only the list; the rest is ours, as are the
 * fields `repositories`, `variables`, `mcp_servers` and `version`.
 */
import { z } from 'zod'
import { CloudProviders } from './cloud-providers.ts'
import { McpServer, NoNul, Repository, VariableName } from './config.ts'
import { Scope } from './roles.ts'
import { Nothing, QueryBoolean, route } from './route.ts'
import { RunState, Timestamp } from './run-states.ts'
import { UserProfile } from './runs.ts'

/** Of environments and agent identities. */
export const Uid = z.string().regex(/^[A-Za-z0-9]{22}$/)

/** A repository of github.com, as Oz names it. */
const GithubRepo = z.object({
  owner: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9-]{0,99}$/, 'not the name of an owner'),
  repo: z.string().regex(/^[A-Za-z0-9_.-]{1,100}$/, 'not the name of a repository'),
})

/** Words that mean no environment where one is named. */
export const NO_ENVIRONMENT = ['none', 'empty-environment']

const Name = NoNul.trim()
  .min(1, 'A name must not be empty.')
  .max(128)
  .refine((name) => !NO_ENVIRONMENT.includes(name.toLowerCase()), 'This word means that there is no environment.')

const fields = {
  description: NoNul.max(240).nullable(),
  docker_image: NoNul.max(512).nullable(),
  repositories: z.array(Repository).max(20),
  github_repos: z.array(GithubRepo).max(20),
  setup_commands: z.array(NoNul.min(1).max(16_384)).max(50),
  variables: z.record(VariableName, NoNul.max(131_071)),
  mcp_servers: z.record(z.string().min(1).max(64), McpServer),
  providers: CloudProviders.nullable(),
  failure_session_retention_minutes: z.int().min(1).max(60).nullable(),
}

/** What an edit was made from: another edit since then is not overwritten, but refused with 409. */
const precondition = { version: z.int().optional(), last_updated: z.iso.datetime({ offset: true }).optional() }

/** `github_repos` counts only where `repositories` is absent. What is left out is empty. */
const Whole = z.object({ name: Name, ...z.object(fields).partial().shape })

/** `team` false: for its maker alone, and for personal runs. It never changes. */
export const NewEnvironment = Whole.extend({ team: z.boolean().optional() })
export type NewEnvironment = z.infer<typeof NewEnvironment>

export const ReplaceEnvironment = Whole.extend(precondition)

/** What is left out stays as it is. */
export const EditEnvironment = Whole.partial().extend(precondition)
export type EditEnvironment = z.infer<typeof EditEnvironment>

export const EnvironmentConfig = z.object({
  name: z.string(),
  ...fields,
  docker_image: z.string().optional(),
  providers: CloudProviders.optional(),
})
export type EnvironmentConfig = z.infer<typeof EnvironmentConfig>

export const Environment = z.object({
  uid: Uid,
  config: EnvironmentConfig,
  version: z.int(),
  last_updated: Timestamp,
  /** The last run that was made with it ended because the environment could not be set up. */
  setup_failed: z.boolean(),
  last_task_run_timestamp: Timestamp.nullable(),
  last_task_created: z
    .object({
      id: z.string(),
      title: z.string(),
      state: RunState,
      created_at: Timestamp,
      updated_at: Timestamp,
      started_at: Timestamp.optional(),
    })
    .optional(),
  scope: Scope,
  creator: UserProfile,
  last_editor: UserProfile,
})
export type Environment = z.infer<typeof Environment>

/** An environment as one execution has it. */
export const FrozenEnvironment = z.object({
  uid: Uid,
  name: z.string(),
  version: z.int(),
  docker_image: z.string().nullable(),
  repositories: fields.repositories,
  setup_commands: fields.setup_commands,
  variables: fields.variables,
  mcp_servers: fields.mcp_servers,
  providers: CloudProviders.nullable().default(null),
})
export type FrozenEnvironment = z.infer<typeof FrozenEnvironment>

const EnvironmentPath = z.object({ environment_uid: Uid })
const tag = 'Environments'

export const environmentRoutes = {
  list: route({
    name: 'environments.list',
    method: 'GET',
    path: '/agent/environments',
    tag,
    callers: ['user'],
    summary: "The environments of the team, and the caller's own.",
    query: z.object({ sort_by: z.enum(['name', 'last_updated']).default('last_updated') }),
    answer: z.object({ environments: z.array(Environment) }),
  }),
  create: route({
    name: 'environments.create',
    method: 'POST',
    path: '/agent/environments',
    tag,
    callers: ['user'],
    summary: "Create an environment; its name is unique among the team's, or among one's own (ours).",
    body: NewEnvironment,
    answer: Environment,
    status: 201,
  }),
  get: route({
    name: 'environments.get',
    method: 'GET',
    path: '/agent/environments/{environment_uid}',
    tag,
    callers: ['user'],
    summary: 'One environment (ours).',
    params: EnvironmentPath,
    answer: Environment,
  }),
  replace: route({
    name: 'environments.replace',
    method: 'PUT',
    path: '/agent/environments/{environment_uid}',
    tag,
    callers: ['user'],
    summary:
      'Replace an environment whole (ours). With `version` or `last_updated` only if nobody changed it since. ' +
      'Executions that were made before keep what they have.',
    params: EnvironmentPath,
    body: ReplaceEnvironment,
    answer: Environment,
  }),
  update: route({
    name: 'environments.update',
    method: 'PATCH',
    path: '/agent/environments/{environment_uid}',
    tag,
    callers: ['user'],
    summary: 'Change some fields of an environment (ours); the rest as for PUT.',
    params: EnvironmentPath,
    body: EditEnvironment,
    answer: Environment,
  }),
  delete: route({
    name: 'environments.delete',
    method: 'DELETE',
    path: '/agent/environments/{environment_uid}',
    tag,
    callers: ['user'],
    summary:
      'Delete an environment (ours): 409 with what uses it, unless `force`. Runs that were made with it keep it as it was.',
    params: EnvironmentPath,
    query: z.object({ force: QueryBoolean.default(false) }),
    answer: Nothing,
    status: 204,
  }),
}
