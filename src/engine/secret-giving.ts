/**
 * Which secrets an execution is given. Settled when it is offered, from what there is then, and opened when its runner
 * begins; what changes later reaches the executions after it.
 *
 *     of one name      environment  >  personal  >  team
 *     of one variable  named by the run for its harness  >  the worker's own  >  typed  >  raw
 *
 * What MCP servers of a run name (`{{NAME}}`) they are given, also where the run is given nothing else.
 *
 * Personal secrets are for personal runs alone: what is the team's may be followed up by everybody in it. A key for a
 * model provider goes to the worker's broker, where that takes keys, and else into the sandbox.
 */
import { type Kysely, type Selectable, sql } from 'kysely'
import {
  type AgentConfig,
  entryOf,
  Fault,
  FrozenEnvironment,
  type McpServers,
  type ModelKeyProvider,
  pointerOf,
  SecretType,
  secretsNamedBy,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Runs, Secrets } from '../db/tables.ts'
import type { Owned } from './caller.ts'
import type { Room } from './engine.ts'

/** `last_used_at` is written at most this often. */
const USED_MS = 60_000
type Secret = Pick<
  Selectable<Secrets>,
  'secret_uid' | 'owner_user_id' | 'environment_uid' | 'name' | 'type' | 'version' | 'created_at' | 'last_used_at'
>
type Placed = Pick<Secret, 'name' | 'owner_user_id' | 'environment_uid'>
export type Provider = ModelKeyProvider | 'bedrock'
type Given = { secret: Secret; reach: 'environment' | 'broker' | 'mcp'; chosen: boolean; for_mcp: boolean }

/** An execution that is being offered. `brokers`: providers for which its worker takes keys. */
export type Offered = {
  execution_id: string
  run: Pick<Selectable<Runs>, 'run_id' | 'team_id' | 'owner_user_id'>
  config: AgentConfig
  environment: FrozenEnvironment | null
  brokers: readonly string[]
}

/**
 * In the transaction of the offer: until its end no value that it settles on can go away. Resolves with the executions
 * that have keys for their worker's broker.
 */
export async function giveSecrets(room: Room, write: Kysely<Tables>, offered: Offered[]): Promise<string[]> {
  const team_id = offered[0]?.run.team_id
  if (team_id === undefined) return []
  const secrets = await write
    .selectFrom('secrets')
    .select(['secret_uid', 'owner_user_id', 'environment_uid', 'name', 'type', 'version', 'created_at', 'last_used_at'])
    .where('team_id', '=', team_id)
    .where('deleted_at', 'is', null)
    .orderBy('created_at')
    .orderBy('secret_uid')
    .forShare()
    .execute()
  if (secrets.length === 0) return []
  const now = room.clock.now()
  const given = offered.flatMap((one) => choose(one, secrets).map((its) => ({ ...its, offered: one })))
  if (given.length === 0) return []
  await write
    .insertInto('execution_secrets')
    .values(
      given.map(({ secret: { secret_uid, version }, reach, chosen, for_mcp, offered: { execution_id } }) => ({
        execution_id,
        secret_uid,
        version,
        reach,
        chosen,
        for_mcp,
      })),
    )
    .execute()
  const stale = given.filter(
    ({ secret: { last_used_at } }) => last_used_at === null || now.getTime() - last_used_at.getTime() > USED_MS,
  )
  if (stale.length > 0)
    await sql`update secrets set last_used_at = ${now}, last_used_run_id = u.run_id
      from unnest(${stale.map(({ secret }) => secret.secret_uid)}::text[],
        ${stale.map(({ offered: { run } }) => run.run_id)}::uuid[]) as u(secret_uid, run_id)
      where secrets.secret_uid = u.secret_uid`.execute(write)
  for (const { execution_id, run } of offered) {
    const names = given.flatMap((one) => (one.offered.execution_id === execution_id ? [one.secret.name] : []))
    if (names.length > 0) room.log.info({ run_id: run.run_id, execution_id, secrets: names }, 'secret.given')
  }
  return [...new Set(given.flatMap(({ reach, offered }) => (reach === 'broker' ? offered.execution_id : [])))]
}

function choose({ run, config, environment, brokers }: Offered, all: Secret[]): Given[] {
  const reachable = reachableBy(all, run, config.environment_id ?? null)
  const named = new Set(authNames(config).map(({ name }) => name))
  const allowed = config.secrets === undefined ? null : new Set(config.secrets.map(({ name }) => name))
  const taken = new Set(reachable.filter(({ name }) => named.has(name) || allowed === null || allowed.has(name)))
  const mcp = new Set(secretsNamedBy({ ...environment?.mcp_servers, ...config.mcp_servers }).map(({ name }) => name))
  const rank = (secret: Secret) => (named.has(secret.name) ? 0 : secret.type === 'raw_value' ? 2 : 1)
  const best = new Map<Provider, Secret>()
  for (const secret of taken) {
    const provider = providerOf(secret)
    const other = provider === null ? undefined : best.get(provider)
    if (provider !== null && (other === undefined || rank(secret) < rank(other))) best.set(provider, secret)
  }
  return reachable.flatMap((secret): Given[] => {
    const provider = providerOf(secret)
    const for_mcp = mcp.has(secret.name)
    if (!taken.has(secret) || (provider !== null && best.get(provider) !== secret))
      return for_mcp ? [{ secret, chosen: false, for_mcp, reach: 'mcp' }] : []
    const reach = provider !== null && brokers.includes(provider) ? 'broker' : 'environment'
    return [{ secret, chosen: named.has(secret.name), for_mcp, reach }]
  })
}

/** Of these what a run that is so owned could be given in this environment: one of each name. */
export const reachableBy = <T extends Placed>(
  all: T[],
  run: Pick<Owned, 'owner_user_id'>,
  environment_uid: string | null,
): T[] => byName(all.filter((secret) => reaches(secret, run, environment_uid)))

function reaches(
  secret: Pick<Secret, 'owner_user_id' | 'environment_uid'>,
  run: Pick<Owned, 'owner_user_id'>,
  environment_uid: string | null,
): boolean {
  if (secret.environment_uid !== null && secret.environment_uid !== environment_uid) return false
  return secret.owner_user_id === null || secret.owner_user_id === run.owner_user_id
}

/** One of each name, the nearest; the nearer scopes come first. */
function byName<T extends Placed>(secrets: T[]): T[] {
  const nearness = ({ environment_uid, owner_user_id }: Placed) =>
    environment_uid !== null ? 0 : owner_user_id !== null ? 1 : 2
  const found = new Map<string, T>()
  for (const secret of secrets.toSorted((a, b) => nearness(a) - nearness(b)))
    if (!found.has(secret.name)) found.set(secret.name, secret)
  return [...found.values()]
}

/** Names that the run has for its harness, with the types that fit. */
export function authNames({ harness_auth_secrets }: AgentConfig) {
  const { claude_auth_secret_name: claude, codex_auth_secret_name: codex } = harness_auth_secrets ?? {}
  return [
    ...(claude ? [{ name: claude, key: 'claude_auth_secret_name', prefix: 'anthropic_' }] : []),
    ...(codex ? [{ name: codex, key: 'codex_auth_secret_name', prefix: 'openai_' }] : []),
  ]
}

/** Raw values that are a provider's key by their name. */
export const PROVIDER_NAMES: Record<string, ModelKeyProvider> = {
  ANTHROPIC_API_KEY: 'anthropic',
  OPENAI_API_KEY: 'openai',
  GEMINI_API_KEY: 'gemini',
}

/** Whose key a secret is, by its type, or of a raw value by its name. */
function providerOf({ type, name }: Secret): Provider | null {
  switch (SecretType.parse(type)) {
    case 'raw_value':
      return entryOf(PROVIDER_NAMES, name) ?? null
    case 'anthropic_api_key':
      return 'anthropic'
    case 'openai_api_key':
      return 'openai'
    case 'anthropic_bedrock_api_key':
    case 'anthropic_bedrock_access_key':
      return 'bedrock'
  }
}

/**
 * The configuration with the secrets that its run may name. What it said itself must be there: throws the fault that
 * says which is not. What its parent hands down and it cannot have is left out. A child has no more than its parent: of
 * one that is given certain secrets alone, some of those. `local`: it is given none, and its MCP servers have theirs
 * from the machine that they are on.
 */
export async function settleSecrets(
  db: Kysely<Tables>,
  owned: Owned,
  config: AgentConfig,
  { said, parent, local }: { said: AgentConfig; parent?: AgentConfig | undefined; local: boolean },
): Promise<AgentConfig> {
  const by_servers = local ? [] : secretsNamedBy(await serversOf(db, config))
  const names = [...(config.secrets ?? []), ...authNames(config), ...by_servers].map(({ name }) => name)
  if (names.length === 0) return config
  const rows = await db
    .selectFrom('secrets')
    .select(['name', 'type', 'owner_user_id', 'environment_uid'])
    .where('team_id', '=', owned.team_id)
    .where('deleted_at', 'is', null)
    .where('name', 'in', [...new Set(names)])
    .execute()
  const found = rows.filter((row) => reaches(row, owned, config.environment_id ?? null))
  for (const name of said.secrets ?? []) checkNamed(found, { ...name, prefix: '' }, '/config/secrets', parent)
  for (const name of authNames(said)) checkNamed(found, name, `/config/harness_auth_secrets/${name.key}`, parent)
  const has = (name: string | undefined) => found.some((row) => row.name === name)
  const { secrets, harness_auth_secrets: auth, mcp_servers: servers, ...rest } = config
  const is_handed_down = (server: string) => said.mcp_servers === undefined && servers?.[server] !== undefined
  const of_parent = parent?.secrets && [
    ...[...parent.secrets, ...authNames(parent), ...secretsNamedBy(await serversOf(db, parent))].map(
      ({ name }) => name,
    ),
  ]
  for (const named of by_servers.filter(({ server }) => !is_handed_down(server))) checkServer(found, named, of_parent)
  const lacking = new Set(by_servers.flatMap(({ server, name }) => (has(name) ? [] : [server])))
  const kept = auth && Object.fromEntries(Object.entries(auth).filter(([, name]) => has(name)))
  return {
    ...rest,
    ...(servers && { mcp_servers: Object.fromEntries(Object.entries(servers).filter(([name]) => !lacking.has(name))) }),
    ...(secrets === undefined ? {} : { secrets: secrets.filter(({ name }) => has(name)) }),
    ...(kept === undefined || Object.keys(kept).length === 0 ? {} : { harness_auth_secrets: kept }),
  }
}

/** With those of its environment, as it stands. */
async function serversOf(db: Kysely<Tables>, { environment_id, mcp_servers }: AgentConfig): Promise<McpServers> {
  if (!environment_id) return mcp_servers ?? {}
  const row = await db
    .selectFrom('environments')
    .select('mcp_servers')
    .where('environment_uid', '=', environment_id)
    .executeTakeFirst()
  return { ...FrozenEnvironment.shape.mcp_servers.parse(row?.mcp_servers ?? {}), ...mcp_servers }
}

/** `of_parent`: names that its parent has, where it is given certain ones alone. */
function checkServer(
  found: Pick<Secret, 'name' | 'type'>[],
  { server, name }: { server: string; name: string },
  of_parent: string[] | undefined,
): void {
  const refuse = (code: 'invalid_request' | 'not_authorized', why: string, detail: string) =>
    new Fault(code, `MCP server ${server} names the secret ${name}${why}`, {
      errors: [{ pointer: pointerOf(['config', 'mcp_servers', server]), detail }],
    })
  const own = found.filter((row) => row.name === name)
  if (own.length === 0)
    throw refuse(
      'invalid_request',
      ', which is not there or not for this run. `baton secret list` shows which there are.',
      'no such secret',
    )
  if (own.every(({ type }) => type === 'anthropic_bedrock_access_key'))
    throw refuse(
      'invalid_request',
      ', which is of several parts. Keep the one that it needs as a raw value.',
      'not one',
    )
  if (of_parent !== undefined && !of_parent.includes(name))
    throw refuse('not_authorized', ', which the parent of this run is not given.', 'not of the parent')
}

function checkNamed(
  found: Pick<Secret, 'name' | 'type'>[],
  { name, prefix }: { name: string; prefix: string },
  pointer: string,
  parent: AgentConfig | undefined,
): void {
  const own = found.filter((row) => row.name === name)
  if (own.length === 0) {
    throw new Fault(
      'invalid_request',
      `There is no secret ${JSON.stringify(name)} that this run may have. \`baton secret list\` shows which there ` +
        'are; a personal one is for personal runs, and that of an environment for runs in it.',
      { errors: [{ pointer, detail: 'no such secret' }] },
    )
  }
  if (prefix !== '' && !own.some(({ type }) => type.startsWith(prefix))) {
    const types = SecretType.options.filter((type) => type.startsWith(prefix)).join(' or ')
    throw new Fault('invalid_request', `Secret ${name} is no key for this harness: its type is not ${types}.`, {
      errors: [{ pointer, detail: `is not of type ${types}` }],
    })
  }
  const had = parent?.secrets
  if (parent === undefined || had === undefined || had.some((one) => one.name === name)) return
  if (authNames(parent).some((one) => one.name === name)) return
  throw new Fault('not_authorized', `The parent is not given the secret ${name}, so its child cannot have it.`, {
    errors: [{ pointer, detail: 'not of the parent' }],
  })
}
