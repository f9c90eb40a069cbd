/** Agent identities: made, changed, deleted, and what a run in the name of one takes from it. */
import { type Kysely, type Selectable, sql } from 'kysely'
import {
  AgentConfig,
  type EditIdentity,
  Fault,
  HarnessAuthSecrets,
  HarnessChoice,
  Identity,
  InferenceProviders,
  type NewIdentity,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Identities } from '../db/tables.ts'
import type { Caller, Owned } from './caller.ts'
import { checkMcpServers } from './configuration.ts'
import type { Room } from './engine.ts'
import { findEnvironment } from './environments.ts'
import { changeMemory, memoryColumns, memoryOf, storesForRuns } from './memory-owners.ts'
import { personOf } from './runs.ts'
import { newUid } from './uid.ts'
import { ownedBy, scopeOf, visibleTo } from './visible.ts'

export function identitiesEngine(room: Room) {
  const { clock } = room
  const db = room.database.kysely

  async function list(caller: Caller, factory_uid: string | undefined): Promise<{ agents: Identity[] }> {
    const read = () => living(caller).orderBy('created_at').orderBy('identity_uid').execute()
    let rows = await read()
    if (rows.every((row) => !row.is_default)) {
      await makeDefault(caller)
      rows = await read()
    }
    const agents = rows.map(render)
    return { agents: factory_uid === undefined ? agents : agents.filter((one) => one.factory_uid === factory_uid) }
  }

  /** Every team has one, from when its identities are looked at first. It sets nothing until somebody changes it. */
  async function makeDefault({ team_id }: Caller): Promise<void> {
    const now = clock.now()
    await sql`
      insert into identities
        (identity_uid, team_id, name, skills, mcp_servers, creator_id, created_at, updated_at, is_default)
      select ${newUid()}, ${team_id}, 'Default agent', '[]', '{}', user_id, ${now}, ${now}, true
      from memberships where team_id = ${team_id} order by created_at, user_id limit 1
      on conflict do nothing`.execute(db)
  }

  async function get(caller: Caller, uid: string): Promise<Identity> {
    return render(await find(db, caller, uid))
  }

  async function find(read: Kysely<Tables>, caller: Caller, uid: string): Promise<Shown> {
    const row = await living(caller, read).where('identity_uid', '=', uid).executeTakeFirst()
    if (!row) throw notFound(uid)
    return row
  }

  async function create(caller: Caller, body: NewIdentity): Promise<Identity> {
    const creator_id = personOf(caller)
    const owned = ownedBy(caller, body.team)
    const now = clock.now()
    const row = {
      identity_uid: newUid(),
      ...owned,
      name: body.name,
      skills: '[]',
      mcp_servers: '{}',
      creator_id,
      created_at: now,
      updated_at: now,
      ...(await columnsOf(owned, body)),
    }
    return db.transaction().execute(async (write) => {
      const made = await write.insertInto('identities').values(row).returningAll().executeTakeFirstOrThrow()
      await changeMemory(write, made, { memory: body.memory, now })
      return render(await find(write, caller, made.identity_uid))
    })
  }

  async function update(caller: Caller, uid: string, body: EditIdentity): Promise<Identity> {
    personOf(caller)
    const columns = await columnsOf(await find(db, caller, uid), body)
    const now = clock.now()
    return db.transaction().execute(async (write) => {
      const row = await write
        .updateTable('identities')
        .set({ ...(body.name ? { name: body.name } : {}), ...columns, updated_at: now })
        .where('identity_uid', '=', uid)
        .where(visibleTo(caller, 'identities'))
        .where('deleted_at', 'is', null)
        .returningAll()
        .executeTakeFirst()
      if (!row) throw notFound(uid)
      await changeMemory(write, row, { memory: body.memory, now })
      return render(await find(write, caller, uid))
    })
  }

  async function remove(caller: Caller, uid: string): Promise<Record<string, never>> {
    personOf(caller)
    const { name, is_default } = await get(caller, uid)
    if (is_default)
      throw new Fault('invalid_request', `${name} is the default agent of the team, which cannot be deleted.`)
    const deleted = await db
      .updateTable('identities')
      .set({ deleted_at: clock.now() })
      .where('identity_uid', '=', uid)
      .where(visibleTo(caller, 'identities'))
      .where('deleted_at', 'is', null)
      .executeTakeFirst()
    if (deleted.numUpdatedRows === 0n) throw notFound(uid)
    return {}
  }

  /** What was given, as it is stored: null stays as it is, and what is empty clears. */
  async function columnsOf(owned: Owned, body: EditIdentity) {
    checkMcpServers(body.mcp_servers ?? {}, '/mcp_servers')
    const { description, prompt, base_model, worker_host, factory_uid, agent_type, credential_strategy } = body
    const { environment_id, skills, mcp_servers, secrets, on_behalf_of_enabled } = body
    const { harness_auth_secrets, inference_providers } = body
    const texts = { description, prompt, base_model, worker_host, factory_uid, agent_type, credential_strategy }
    const harness = body.harness ?? (typeof body.base_harness === 'string' ? { type: body.base_harness } : null)
    const names_one = Object.values(harness ?? {}).some(Boolean)
    const environment = environment_id ? await findEnvironment(db, owned, environment_id, '/environment_id') : null
    return {
      ...Object.fromEntries(
        Object.entries(texts)
          .filter(([, text]) => text !== undefined && text !== null)
          .map(([name, text]) => [name, text || null]),
      ),
      ...(harness ? { harness: names_one ? JSON.stringify(HarnessChoice.parse(harness)) : null } : {}),
      ...(environment_id === undefined || environment_id === null
        ? {}
        : { environment_uid: environment?.environment_uid ?? null }),
      ...(skills ? { skills: JSON.stringify(skills) } : {}),
      ...(mcp_servers ? { mcp_servers: JSON.stringify(mcp_servers) } : {}),
      ...(secrets ? { secrets: JSON.stringify(secrets) } : {}),
      ...(harness_auth_secrets ? { harness_auth_secrets: filled(harness_auth_secrets) } : {}),
      ...(inference_providers ? { inference_providers: filled(inference_providers) } : {}),
      ...(typeof on_behalf_of_enabled === 'boolean' ? { on_behalf_of_enabled } : {}),
    }
  }

  const living = (caller: Caller, read: Kysely<Tables> = db) =>
    read
      .selectFrom('identities')
      .selectAll()
      .select(memoryColumns)
      .where(visibleTo(caller, 'identities'))
      .where('deleted_at', 'is', null)

  return { list, get, create, update, delete: remove }
}

const filled = (value: object): string | null => (Object.keys(value).length === 0 ? null : JSON.stringify(value))

type Shown = Selectable<Identities> & { attached_stores: unknown; own_store: unknown }

function render(row: Shown): Identity {
  const harness = row.harness === null ? null : HarnessChoice.parse(row.harness)
  return Identity.parse({
    ...row,
    uid: row.identity_uid,
    available: true,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
    base_harness: harness?.type,
    harness:
      harness === null
        ? undefined
        : {
            type: harness.type,
            model_id: harness.model_id ?? undefined,
            reasoning_level: harness.reasoning_level ?? undefined,
          },
    harness_auth_secrets: row.harness_auth_secrets ?? undefined,
    inference_providers: row.inference_providers ?? undefined,
    credential_strategy: row.credential_strategy ?? undefined,
    environment_id: row.environment_uid ?? undefined,
    worker_host: row.worker_host ?? undefined,
    memory: memoryOf(row),
    default_runner_uid: '',
    scope: scopeOf(row),
  })
}

/** By uid, or by a name that is one identity's alone, as a run that is so owned may name it. */
export async function findIdentity(db: Kysely<Tables>, owned: Owned, asked: string): Promise<Selectable<Identities>> {
  const rows = await db
    .selectFrom('identities')
    .selectAll()
    .where(visibleTo(owned, 'identities'))
    .where((e) => e.or([e('identity_uid', '=', asked), e(sql`lower(name)`, '=', asked.trim().toLowerCase())]))
    .execute()
  const living = rows.filter((row) => row.deleted_at === null)
  const exact = rows.find((row) => row.identity_uid === asked)
  const [found, ...others] = exact === undefined ? living : living.filter((row) => row === exact)
  if (found && others.length === 0) {
    if (found.owner_user_id === owned.owner_user_id) return found
    throw new Fault(
      'invalid_request',
      `Agent identity ${JSON.stringify(found.name)} is the team's, and so are its runs: leave out \`team\`.`,
      { errors: [{ pointer: '/agent_identity_uid', detail: 'takes runs of the team alone' }] },
    )
  }
  const what = () => {
    const uids = living.map((row) => row.identity_uid)
    if (living.length > 1)
      return `Several agent identities are named ${JSON.stringify(asked)}: use the uid, ${uids.join(' or ')}.`
    if (rows.length === 0) return `There is no agent identity ${JSON.stringify(asked)}.`
    return `Agent identity ${JSON.stringify(rows[0]?.name)} was deleted: it takes no new runs.`
  }
  throw new Fault('invalid_request', what(), {
    errors: [
      { pointer: '/agent_identity_uid', detail: living.length > 1 ? 'several of this name' : 'no such identity' },
    ],
  })
}

/** What a run in this identity's name is worked on with, where it says nothing itself. */
export async function defaultsOf(db: Kysely<Tables>, identity: Selectable<Identities>): Promise<AgentConfig> {
  const { prompt, base_model, harness, environment_uid, worker_host, name } = identity
  const { skills, mcp_servers, secrets, credential_strategy } = AgentConfig.pick({
    skills: true,
    mcp_servers: true,
    secrets: true,
    credential_strategy: true,
  }).parse(identity)
  const providers = InferenceProviders.parse(identity.inference_providers ?? {})
  const auth = HarnessAuthSecrets.parse(identity.harness_auth_secrets ?? {})
  if (environment_uid !== null) await checkEnvironment(db, environment_uid, name)
  const memory_stores = await storesForRuns(db, identity.identity_uid)
  return {
    ...(prompt === null ? {} : { base_prompt: prompt }),
    ...(base_model === null ? {} : { model_id: base_model }),
    ...(harness === null ? {} : { harness: HarnessChoice.parse(harness) }),
    ...(environment_uid === null ? {} : { environment_id: environment_uid }),
    ...(worker_host === null ? {} : { worker_host }),
    ...(skills === undefined || skills.length === 0 ? {} : { skills }),
    ...(mcp_servers === undefined || Object.keys(mcp_servers).length === 0 ? {} : { mcp_servers }),
    // It cannot say "none": an agent that names no secrets is not narrowed.
    ...(secrets === undefined || secrets.length === 0 ? {} : { secrets }),
    ...(Object.keys(auth).length === 0 ? {} : { harness_auth_secrets: auth }),
    ...(Object.keys(providers).length === 0 ? {} : { inference_providers: providers }),
    ...(credential_strategy ? { credential_strategy } : {}),
    ...(memory_stores === undefined ? {} : { memory_stores }),
  }
}

async function checkEnvironment(db: Kysely<Tables>, environment_uid: string, identity: string): Promise<void> {
  const { name, deleted_at } = await db
    .selectFrom('environments')
    .select(['name', 'deleted_at'])
    .where('environment_uid', '=', environment_uid)
    .executeTakeFirstOrThrow()
  if (deleted_at === null) return
  throw new Fault(
    'invalid_request',
    `Agent identity ${JSON.stringify(identity)} works in environment ${JSON.stringify(name)}, which was deleted. ` +
      'Give the identity another one.',
    { errors: [{ pointer: '/agent_identity_uid', detail: 'its environment was deleted' }] },
  )
}

function notFound(uid: string): Fault {
  return new Fault('resource_not_found', `There is no agent identity ${uid}.`)
}
