/**
 * Secrets: kept, changed, deleted, listed without their values. Values are sealed (`sealing.ts`) and bound to team,
 * secret and version; an old one goes as soon as no execution at work was given it.
 */
import { type Kysely, sql } from 'kysely'
import type { z } from 'zod'
import {
  type EditSecret,
  Fault,
  type NewSecret,
  SECRET_BYTES_MAX,
  Secret,
  SecretParts,
  type SecretType,
  type secretRoutes,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'
import { findEnvironment } from './environments.ts'
import { personOf } from './runs.ts'
import { newestKey, rewrap, seal } from './sealing.ts'
import { newUid } from './uid.ts'
import { ownedBy, visibleTo } from './visible.ts'

/** Of one team, one person or one environment together: what a process may be started with is bounded. */
const SCOPE_SECRETS_MAX = 500
/** Rows that are locked anew in one go. */
const ROTATE_BATCH = 200
/** That a server makes for itself: everybody who owns a team can ask for another. */
const MASTER_KEYS_MAX = 50
const UNIQUE_VIOLATION = '23505'

/** What binds a value to its row. */
export const boundOf = ({ team_id, secret_uid, version }: { team_id: string; secret_uid: string; version: number }) =>
  `secret ${team_id} ${secret_uid} ${version}`

export const issuerBound = (kid: string): string => `issuer key ${kid}`

export function secretsEngine(room: Room) {
  const { clock, keyring, log } = room
  const db = room.database.kysely

  async function list(caller: Caller, environment: string | undefined): Promise<{ secrets: Secret[] }> {
    const found = environment === undefined ? null : await findEnvironment(db, caller, environment, '/environment_id')
    const rows = await select(caller)
      .$if(found !== null, (q) => q.where('s.environment_uid', '=', found?.environment_uid ?? ''))
      .orderBy('s.name')
      .orderBy('s.created_at')
      .execute()
    return { secrets: rows.map(render) }
  }

  async function get(caller: Caller, secret_uid: string): Promise<Secret> {
    const row = await select(caller).where('s.secret_uid', '=', secret_uid).executeTakeFirst()
    if (!row) throw notFound(secret_uid)
    return render(row)
  }

  async function create(caller: Caller, body: NewSecret): Promise<Secret> {
    const user_id = personOf(caller)
    if (caller.kind !== 'user') throw new Fault('not_authorized', 'Only people keep secrets.')
    const environment =
      body.environment_id === undefined
        ? null
        : await findEnvironment(db, caller, body.environment_id, '/environment_id')
    if (environment !== null && body.team === false) throw bothScopes()
    const owned = environment === null ? ownedBy(caller, body.team) : ownedBy(caller, undefined)
    const plain = plainOf(body.type, body.name, body.value)
    const secret_uid = newUid()
    const row = { ...owned, secret_uid, environment_uid: environment?.environment_uid ?? null, version: 1 }
    const sealed = seal(await newestKey(room), plain, boundOf(row))
    const now = clock.now()
    await db.transaction().execute(async (write) => {
      await checkRoom(write, row)
      await named(body.name, () =>
        write
          .insertInto('secrets')
          .values({
            ...row,
            name: body.name,
            type: body.type,
            description: body.description || null,
            creator_id: user_id,
            editor_id: user_id,
            created_at: now,
            updated_at: now,
          })
          .execute(),
      )
      await write
        .insertInto('secret_versions')
        .values({ secret_uid, version: 1, ...sealed })
        .execute()
    })
    log.info({ secret_uid, name: body.name, user_id }, 'secret.created')
    return get(caller, secret_uid)
  }

  async function update(caller: Caller, secret_uid: string, body: EditSecret): Promise<Secret> {
    const editor_id = personOf(caller)
    const { name, value, description } = body
    const current = await get(caller, secret_uid)
    const plain = value === undefined ? null : plainOf(current.type, name ?? current.name, value)
    const master = plain === null ? null : await newestKey(room)
    await db.transaction().execute(async (write) => {
      const row = await named(name ?? '', () =>
        write
          .updateTable('secrets')
          .set({
            ...(name === undefined ? {} : { name }),
            ...(description === undefined ? {} : { description: description || null }),
            ...(plain === null ? {} : { version: sql<number>`version + 1` }),
            editor_id,
            updated_at: clock.now(),
          })
          .where('secret_uid', '=', secret_uid)
          .where('deleted_at', 'is', null)
          .returning(['team_id', 'secret_uid', 'version'])
          .executeTakeFirst(),
      )
      if (row === undefined) throw notFound(secret_uid)
      if (plain === null || master === null) return
      const { version } = row
      await write
        .insertInto('secret_versions')
        .values({ secret_uid, version, ...seal(master, plain, boundOf(row)) })
        .execute()
      await dropUnused(write, secret_uid)
    })
    log.info({ secret_uid, user_id: editor_id, value: plain !== null }, 'secret.changed')
    return get(caller, secret_uid)
  }

  async function remove(caller: Caller, secret_uid: string): Promise<Record<string, never>> {
    const user_id = personOf(caller)
    await get(caller, secret_uid)
    await db.transaction().execute(async (write) => {
      const deleted = await write
        .updateTable('secrets')
        .set({ deleted_at: clock.now(), editor_id: user_id })
        .where('secret_uid', '=', secret_uid)
        .where('deleted_at', 'is', null)
        .executeTakeFirst()
      if (deleted.numUpdatedRows === 0n) throw notFound(secret_uid)
      await dropUnused(write, secret_uid)
    })
    log.info({ secret_uid, user_id }, 'secret.deleted')
    return {}
  }

  /** Each row by itself: whenever this is broken off, every row opens with a key that the server has. */
  async function rotate(make: boolean) {
    const made = make && keyring.make !== null ? await makeKey() : null
    const master = made ?? (await newestKey(room))
    let rewrapped = 0
    for (const table of ['secret_versions', 'issuer_keys'] as const) {
      for (let more = ROTATE_BATCH; more === ROTATE_BATCH; ) {
        const rows = await lockedOtherwise(table, master.key_id)
        for (const { bound, where, ...sealed } of rows) {
          const wrapped = rewrap(keyring, master, sealed, bound)
          const { numAffectedRows } = await sql`update ${sql.table(table)}
            set key_id = ${wrapped.key_id}, wrapped_key = ${wrapped.wrapped_key}
            where ${where} and key_id = ${sealed.key_id}`.execute(db)
          rewrapped += Number(numAffectedRows ?? 0n)
        }
        more = rows.length
      }
    }
    const { rows } = await sql<{ key_id: string }>`
      select key_id from secret_versions union select key_id from issuer_keys`.execute(db)
    const used = new Set([master.key_id, ...rows.map((row) => row.key_id)])
    const unused_keys = keyring.keys().flatMap(({ key_id }) => (used.has(key_id) ? [] : [key_id]))
    log.info({ key_id: master.key_id, rewrapped, unused_keys }, 'secret.key_rotated')
    return { key_id: master.key_id, made: made !== null, rewrapped, unused_keys }
  }

  /** Not on top of keys that open nothing here. */
  async function makeKey() {
    const before = keyring.keys().length
    const newest = await newestKey(room)
    if (before >= MASTER_KEYS_MAX && keyring.make !== null) {
      throw new Fault(
        'budget_exceeded',
        `This server keeps ${before} master keys. Remove those that lock nothing first.`,
      )
    }
    // The very first key is new enough.
    return before === 0 ? newest : keyring.make === null ? null : keyring.make()
  }

  async function lockedOtherwise(table: 'secret_versions' | 'issuer_keys', key_id: string) {
    if (table === 'issuer_keys') {
      const rows = await db
        .selectFrom('issuer_keys')
        .select(['kid', 'key_id', 'wrapped_key', 'ciphertext'])
        .where('key_id', '!=', key_id)
        .limit(ROTATE_BATCH)
        .execute()
      return rows.map(({ kid, ...sealed }) => ({ ...sealed, bound: issuerBound(kid), where: sql`kid = ${kid}` }))
    }
    const rows = await db
      .selectFrom('secret_versions as v')
      .innerJoin('secrets as s', 's.secret_uid', 'v.secret_uid')
      .select(['s.team_id', 'v.secret_uid', 'v.version', 'v.key_id', 'v.wrapped_key', 'v.ciphertext'])
      .where('v.key_id', '!=', key_id)
      .limit(ROTATE_BATCH)
      .execute()
    return rows.map(({ key_id: old, wrapped_key, ciphertext, ...row }) => ({
      key_id: old,
      wrapped_key,
      ciphertext,
      bound: boundOf(row),
      where: sql`secret_uid = ${row.secret_uid} and version = ${row.version}`,
    }))
  }

  const select = (caller: Caller) =>
    db
      .selectFrom('secrets as s')
      .innerJoin('users as creator', 'creator.user_id', 's.creator_id')
      .innerJoin('users as editor', 'editor.user_id', 's.editor_id')
      .leftJoin('secret_versions as v', (on) =>
        on.onRef('v.secret_uid', '=', 's.secret_uid').onRef('v.version', '=', 's.version'),
      )
      .leftJoin('environments as e', 'e.environment_uid', 's.environment_uid')
      .leftJoin('runs as used', (on) =>
        on.onRef('used.run_id', '=', 's.last_used_run_id').on(visibleTo(caller, 'used')),
      )
      .leftJoin('users as user', 'user.user_id', 'used.creator_id')
      .where(visibleTo(caller, 's'))
      .where((where) => where.or([where('s.environment_uid', 'is', null), visibleTo(caller, 'e')]))
      .where('s.deleted_at', 'is', null)
      .selectAll('s')
      .select(['creator.display_name as creator_name', 'editor.display_name as editor_name', 'v.key_id'])
      .select(['used.run_id as used_run_id', 'used.creator_id as used_by', 'user.display_name as used_by_name'])

  type Selected = Awaited<ReturnType<ReturnType<typeof select>['execute']>>[number]

  function render(row: Selected): Secret {
    const person = (uid: string, display_name: string | null) => ({ type: 'user', uid, display_name })
    return Secret.parse({
      ...row,
      uid: row.secret_uid,
      scope:
        row.environment_uid !== null
          ? { type: 'Environment', uid: row.environment_uid }
          : row.owner_user_id !== null
            ? { type: 'User', uid: row.owner_user_id }
            : { type: 'Team', uid: row.team_id },
      available: row.key_id !== null && keyring.find(row.key_id) !== undefined,
      created_at: row.created_at.toISOString(),
      updated_at: row.updated_at.toISOString(),
      creator: person(row.creator_id, row.creator_name),
      last_editor: person(row.editor_id, row.editor_name),
      last_used_at: row.last_used_at?.toISOString() ?? null,
      // Of a colleague's personal run it is only told when.
      last_used_run_id: row.used_run_id,
      last_used_by: row.used_by === null ? null : person(row.used_by, row.used_by_name),
    })
  }

  return {
    list,
    get,
    create,
    delete: remove,
    update,
    replace: (caller: Caller, secret_uid: string, body: z.output<typeof secretRoutes.replace.body>) =>
      update(caller, secret_uid, { ...body, description: body.description ?? null }),
    rotate: (caller: Caller, make: boolean) => {
      personOf(caller)
      return rotate(make)
    },
    /** Values that were replaced or deleted while executions had them, and have them no more. */
    sweep: () => dropUnused(db, null),
  }
}

/** Of one secret, or of all: values that are not current and that no execution at work was given. */
async function dropUnused(db: Kysely<Tables>, secret_uid: string | null): Promise<void> {
  await sql`
    delete from secret_versions v using secrets s
    where s.secret_uid = v.secret_uid and (s.deleted_at is not null or v.version < s.version)
      and ${secret_uid === null ? sql`true` : sql`v.secret_uid = ${secret_uid}`}
      and not exists (select from execution_secrets g join executions x on x.execution_id = g.execution_id
        where g.secret_uid = v.secret_uid and g.version = v.version and x.state <> 'ended')`.execute(db)
}

type ScopeRow = { team_id: string; owner_user_id: string | null; environment_uid: string | null }

async function checkRoom(write: Kysely<Tables>, { team_id, owner_user_id, environment_uid }: ScopeRow): Promise<void> {
  const { count } = await write
    .selectFrom('secrets')
    .select((e) => e.fn.countAll<number>().as('count'))
    .where('team_id', '=', team_id)
    .where('owner_user_id', 'is not distinct from', owner_user_id)
    .where('environment_uid', 'is not distinct from', environment_uid)
    .where('deleted_at', 'is', null)
    .executeTakeFirstOrThrow()
  if (count < SCOPE_SECRETS_MAX) return
  throw new Fault('budget_exceeded', `There are ${count} secrets here, which is the most. Delete some first.`)
}

/** The parts of a value as they are sealed. Throws the fault that says what is wrong, without the value. */
function plainOf(type: SecretType, name: string, value: string | Record<string, string>): Buffer {
  const text_is = type === 'raw_value' ? 'value' : 'api_key'
  const parsed = SecretParts[type].safeParse(typeof value === 'string' ? { [text_is]: value } : value)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    const part = issue?.path.join('.') || Object.keys(SecretParts[type].shape).join(', ')
    const why = issue?.code === 'invalid_type' ? 'is missing' : (issue?.message ?? 'is not as it should be')
    throw new Fault('invalid_request', `The value of a secret of type ${type}: ${part} ${why}.`, {
      errors: [{ pointer: `/value${issue?.path.map((one) => `/${String(one)}`).join('') ?? ''}`, detail: why }],
    })
  }
  for (const part of Object.values(parsed.data)) {
    const bytes = Buffer.byteLength(`${name}=${part}`)
    if (bytes < SECRET_BYTES_MAX) continue
    throw new Fault(
      'invalid_request',
      `The secret has ${bytes} bytes with its name; an environment variable has less than ${SECRET_BYTES_MAX}.`,
      { errors: [{ pointer: '/value', detail: 'too long' }] },
    )
  }
  return Buffer.from(JSON.stringify(parsed.data))
}

async function named<T>(name: string, write: () => Promise<T>): Promise<T> {
  try {
    return await write()
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === UNIQUE_VIOLATION)) throw error
    throw new Fault('conflict', `There is a secret ${name} there already. Update it, or choose another name.`, {
      retryable: false,
    })
  }
}

const bothScopes = (): Fault =>
  new Fault('invalid_request', "A secret is a person's own or that of an environment, not both.", {
    errors: [{ pointer: '/environment_id', detail: 'not with team: false' }],
  })

function notFound(secret_uid: string): Fault {
  return new Fault('resource_not_found', `There is no secret ${secret_uid}.`)
}
