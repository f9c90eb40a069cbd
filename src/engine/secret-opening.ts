/**
 * Secrets that executions were given, opened: for the runner that begins, for the broker of its worker, and for the
 * server itself, which keeps them out of what an agent says past its runner.
 */
import {
  type AgentConfig,
  type Assignment,
  entryOf,
  Fault,
  harnessOf,
  MODEL_KEY_PROVIDERS,
  type ModelKey,
  makeRedactor,
  type Redactor,
  SecretParts,
  SecretType,
  secretsNamedBy,
} from '../contract/index.ts'
import type { Room } from './engine.ts'
import { unseal } from './sealing.ts'
import { authNames, PROVIDER_NAMES, type Provider } from './secret-giving.ts'
import { boundOf } from './secrets.ts'

/** Executions whose redactor is kept. */
const REDACTORS_MAX = 1000

type Reach = Pick<Room, 'database' | 'keyring' | 'log'>

const givenTo = ({ database }: Reach, execution_ids: string[]) =>
  database.kysely
    .selectFrom('execution_secrets as g')
    .innerJoin('secrets as s', 's.secret_uid', 'g.secret_uid')
    .innerJoin('secret_versions as v', (on) =>
      on.onRef('v.secret_uid', '=', 'g.secret_uid').onRef('v.version', '=', 'g.version'),
    )
    .select(['g.execution_id', 'g.reach', 'g.chosen', 'g.for_mcp', 's.name', 's.type', 's.team_id'])
    .select(['v.secret_uid', 'v.version', 'v.key_id', 'v.wrapped_key', 'v.ciphertext'])
    .where('g.execution_id', 'in', execution_ids)
    .orderBy('s.created_at')
    .execute()

type Row = Awaited<ReturnType<typeof givenTo>>[number]

type Opened = Row & { provider: Provider | null; variables: Record<string, string>; hidden: string[] }

function openRow({ keyring }: Reach, row: Row): Opened {
  const type = SecretType.parse(row.type)
  const plain: unknown = JSON.parse(unseal(keyring, row, boundOf(row)).toString('utf8'))
  return { ...row, ...variablesOf(type, row.name, plain) }
}

/**
 * What the runner of an execution needs; absent where it is given none. `config` is with what its environment adds;
 * `any`: the execution was given some.
 */
export async function renderSecrets(
  reach: Reach,
  config: AgentConfig,
  { execution_id, any }: { execution_id: string; any: boolean },
): Promise<Pick<Assignment, 'secrets'>> {
  const rows = any ? await givenTo(reach, [execution_id]) : []
  const asked = [...(config.secrets ?? []), ...authNames(config)]
  const by_servers = secretsNamedBy(config.mcp_servers ?? {})
  const gone = [...asked, ...by_servers].find(({ name }) => !rows.some((row) => row.name === name))
  if (rows.length === 0 && gone === undefined) return {}
  const none = { variables: {}, chosen: {}, hidden: [] }
  if (gone !== undefined) {
    const who = 'server' in gone ? `its MCP server ${gone.server}` : 'the run'
    const problem = `The secret ${gone.name}, which ${who} names, is not there any more. Keep it again, or ask without it.`
    return { secrets: { ...none, problem } }
  }
  try {
    const opened = rows.map((row) => openRow(reach, row)).filter((one) => one.reach !== 'broker' || one.for_mcp)
    const inside = opened.filter((one) => one.reach === 'environment')
    const hidden = opened.flatMap((one) => one.hidden)
    return { secrets: { ...merged(config, inside), ...forServers(opened), hidden, problem: null } }
  } catch (thrown) {
    if (!(thrown instanceof Fault)) throw thrown
    reach.log.error({ execution_id, reason: thrown.message }, 'secret.unreadable')
    return { secrets: { ...none, problem: `A secret of this run cannot be read. ${thrown.message}` } }
  }
}

/** The one text that a secret is, whatever its type. */
function forServers(opened: Opened[]): { mcp?: Record<string, string> } {
  const pairs = opened.flatMap((one) => (one.for_mcp ? [[one.name, one.hidden[0] ?? '']] : []))
  return pairs.length === 0 ? {} : { mcp: Object.fromEntries(pairs) }
}

/** Typed ones go over raw ones. */
function merged(config: AgentConfig, inside: Opened[]) {
  const sorted = inside.toSorted((a, b) => Number(a.type !== 'raw_value') - Number(b.type !== 'raw_value'))
  const join = (chosen: boolean): Record<string, string> =>
    Object.assign({}, ...sorted.filter((one) => one.chosen === chosen).map(({ variables }) => variables))
  const uses_bedrock = inside.some((one) => one.chosen && one.provider === 'bedrock') && harnessOf(config) === 'claude'
  return {
    variables: join(false),
    chosen: { ...join(true), ...(uses_bedrock ? { CLAUDE_CODE_USE_BEDROCK: '1' } : {}) },
  }
}

/** What the brokers of workers are to have, by execution. What cannot be opened is said when the runner begins. */
export async function modelKeysFor(reach: Reach, execution_ids: string[]): Promise<Map<string, ModelKey[]>> {
  const keys = new Map<string, ModelKey[]>()
  if (execution_ids.length === 0) return keys
  for (const row of await givenTo(reach, execution_ids)) {
    const key = row.reach === 'broker' ? modelKey(reach, row) : null
    if (key !== null) keys.set(row.execution_id, [...(keys.get(row.execution_id) ?? []), key])
  }
  return keys
}

function modelKey(reach: Reach, row: Row): ModelKey | null {
  try {
    const { provider: named, variables, chosen } = openRow(reach, row)
    const provider = MODEL_KEY_PROVIDERS.find((one) => one === named)
    if (provider === undefined) return null
    const base_url = variables[`${provider.toUpperCase()}_BASE_URL`]
    const api_key = variables[`${provider.toUpperCase()}_API_KEY`] ?? ''
    return { provider, api_key, chosen, ...(base_url === undefined ? {} : { base_url }) }
  } catch (thrown) {
    if (!(thrown instanceof Fault)) throw thrown
    return null
  }
}

/**
 * A raw value that the server itself uses for those who may have it. Throws the fault that says why it cannot be read.
 */
export async function openValue(reach: Reach, secret: { secret_uid: string; version: number }): Promise<string> {
  const row = await reach.database.kysely
    .selectFrom('secret_versions as v')
    .innerJoin('secrets as s', 's.secret_uid', 'v.secret_uid')
    .select(['s.team_id', 'v.secret_uid', 'v.version', 'v.key_id', 'v.wrapped_key', 'v.ciphertext'])
    .where('v.secret_uid', '=', secret.secret_uid)
    .where('v.version', '=', secret.version)
    .executeTakeFirst()
  if (row === undefined) throw new Fault('resource_not_found', 'It has another value by now.')
  const plain: unknown = JSON.parse(unseal(reach.keyring, row, boundOf(row)).toString('utf8'))
  return SecretParts.raw_value.parse(plain).value
}

/** Null: the execution was given no secrets. Rejects where they cannot be read: then none can be kept out. */
export type RedactorOf = (execution_id: string) => Promise<Redactor | null>

/** What an execution is given is settled before anybody speaks for it, so an answer stays right. */
export function redactors(reach: Reach): RedactorOf {
  const kept = new Map<string, Promise<Redactor | null>>()

  async function make(execution_id: string): Promise<Redactor | null> {
    const rows = await givenTo(reach, [execution_id])
    return rows.length === 0 ? null : makeRedactor(rows.flatMap((row) => openRow(reach, row).hidden))
  }

  return (execution_id) => {
    const known = kept.get(execution_id)
    if (known !== undefined) return known
    const made = make(execution_id)
    made.catch(() => kept.delete(execution_id))
    kept.set(execution_id, made)
    const oldest = kept.keys().next().value
    if (kept.size > REDACTORS_MAX && oldest !== undefined) kept.delete(oldest)
    return made
  }
}

function variablesOf(
  type: SecretType,
  name: string,
  plain: unknown,
): Pick<Opened, 'provider' | 'variables' | 'hidden'> {
  switch (type) {
    case 'raw_value': {
      const { value } = SecretParts[type].parse(plain)
      return { provider: entryOf(PROVIDER_NAMES, name) ?? null, variables: { [name]: value }, hidden: [value] }
    }
    case 'anthropic_api_key': {
      const { api_key } = SecretParts[type].parse(plain)
      return { provider: 'anthropic', variables: { ANTHROPIC_API_KEY: api_key }, hidden: [api_key] }
    }
    case 'openai_api_key': {
      const { api_key, base_url } = SecretParts[type].parse(plain)
      const variables = { OPENAI_API_KEY: api_key, ...(base_url === undefined ? {} : { OPENAI_BASE_URL: base_url }) }
      return { provider: 'openai', variables, hidden: [api_key] }
    }
    case 'anthropic_bedrock_api_key': {
      const { api_key, region } = SecretParts[type].parse(plain)
      const variables = { AWS_BEARER_TOKEN_BEDROCK: api_key, AWS_REGION: region }
      return { provider: 'bedrock', variables, hidden: [api_key] }
    }
    case 'anthropic_bedrock_access_key': {
      const { access_key_id, secret_access_key, session_token, region } = SecretParts[type].parse(plain)
      const token = session_token === undefined ? {} : { AWS_SESSION_TOKEN: session_token }
      const keys = { AWS_ACCESS_KEY_ID: access_key_id, AWS_SECRET_ACCESS_KEY: secret_access_key, ...token }
      return { provider: 'bedrock', variables: { ...keys, AWS_REGION: region }, hidden: Object.values(keys) }
    }
  }
}
