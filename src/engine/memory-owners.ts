/** Which memory stores agent identities have: those that people attach, and the one that each may keep by itself. */
import { type Kysely, type Selectable, sql } from 'kysely'
import { z } from 'zod'
import { AttachedStore, type EditIdentity, Fault, type Identity } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Identities } from '../db/tables.ts'
import type { Owned } from './caller.ts'
import { newUid } from './uid.ts'
import { visibleTo } from './visible.ts'

/** What an agent's automatic memory is for, in its own words. */
const AUTO_INSTRUCTIONS =
  'Your own memory. Read it before you begin. Keep what you learn here that will help you with later work of this kind: ' +
  'how things are done, what was decided and why, what went wrong and how it was mended.'

type Memory = Identity['memory']

/** Of each row of `identities`: its living stores, attached ones in the order in which they were given, and its own. */
export const memoryColumns = [
  sql<unknown>`(select coalesce(jsonb_agg(jsonb_build_object('uid', l.store_uid, 'access', l.access,
      'instructions', l.instructions) order by l.place), '[]')
    from identity_stores l join memory_stores s on s.store_uid = l.store_uid
    where l.identity_uid = identities.identity_uid and s.deleted_at is null)`.as('attached_stores'),
  sql<unknown>`(select jsonb_build_object('uid', s.store_uid, 'description', s.description) from memory_stores s
    where s.identity_uid = identities.identity_uid and s.deleted_at is null)`.as('own_store'),
] as const

type Row = { identity_uid: string; auto_memory: boolean; attached_stores: unknown; own_store: unknown }

const Own = z.object({ uid: z.string(), description: z.string().nullable() }).nullable()

export function memoryOf(row: Row): Memory {
  const attached_stores = z.array(AttachedStore).parse(row.attached_stores)
  const own = Own.parse(row.own_store)
  if (!row.auto_memory || own === null) return { attached_stores, auto_memory: { enabled: false } }
  const { uid, description } = own
  const store = { uid, access: 'read_write' as const, instructions: AUTO_INSTRUCTIONS }
  const owner = { owner_type: 'service_account' as const, owner_uid: row.identity_uid }
  const told = description === null ? {} : { description }
  return { attached_stores, auto_memory: { enabled: true, store: { ...store, ...owner, ...told } } }
}

/** As the runs of an identity are given them; none: undefined. */
export async function storesForRuns(db: Kysely<Tables>, identity_uid: string): Promise<AttachedStore[] | undefined> {
  const row = await db
    .selectFrom('identities')
    .select(['identity_uid', 'auto_memory', ...memoryColumns])
    .where('identity_uid', '=', identity_uid)
    .executeTakeFirstOrThrow()
  const { attached_stores, auto_memory } = memoryOf(row)
  const own = auto_memory.store === undefined ? [] : [AttachedStore.parse(auto_memory.store)]
  const all = [...attached_stores, ...own]
  return all.length === 0 ? undefined : all
}

/** What is absent or null stays; an empty list or object clears. */
export async function changeMemory(
  write: Kysely<Tables>,
  identity: Selectable<Identities>,
  { memory, now }: { memory: EditIdentity['memory']; now: Date },
): Promise<void> {
  if (memory === undefined || memory === null) return
  const clears = Object.keys(memory).length === 0
  const attached = clears ? [] : memory.attached_stores
  const enabled = clears ? false : memory.auto_memory && (memory.auto_memory.enabled ?? false)
  if (attached) await attach(write, identity, attached)
  if (typeof enabled === 'boolean') await keepOwn(write, identity, { enabled, now })
}

async function attach(write: Kysely<Tables>, identity: Selectable<Identities>, stores: AttachedStore[]): Promise<void> {
  await checkStores(write, identity, { stores, pointer: '/memory/attached_stores' })
  const { identity_uid } = identity
  await write.deleteFrom('identity_stores').where('identity_uid', '=', identity_uid).execute()
  if (stores.length === 0) return
  const rows = stores.map(({ uid, access, instructions }, place) => ({
    ...{ identity_uid, store_uid: uid, access, instructions, place },
  }))
  await write.insertInto('identity_stores').values(rows).execute()
}

async function keepOwn(
  write: Kysely<Tables>,
  { identity_uid, team_id, owner_user_id, creator_id }: Selectable<Identities>,
  { enabled, now }: { enabled: boolean; now: Date },
): Promise<void> {
  await write.updateTable('identities').set({ auto_memory: enabled }).where('identity_uid', '=', identity_uid).execute()
  if (!enabled) return
  await sql`
    insert into memory_stores (store_uid, team_id, owner_user_id, identity_uid, creator_id, created_at, updated_at)
    values (${newUid()}, ${team_id}, ${owner_user_id}, ${identity_uid}, ${creator_id}, ${now}, ${now})
    on conflict (identity_uid) where deleted_at is null do nothing`.execute(write)
}

/** That they are there for what is so owned, each named once. */
export async function checkStores(
  db: Kysely<Tables>,
  owned: Owned,
  { stores, pointer }: { stores: AttachedStore[]; pointer: string },
): Promise<void> {
  if (stores.length === 0) return
  const found = await db
    .selectFrom('memory_stores')
    .select('store_uid')
    .where('store_uid', 'in', [...new Set(stores.map(({ uid }) => uid))])
    .where(visibleTo(owned, 'memory_stores'))
    .where('deleted_at', 'is', null)
    .execute()
  const known = new Set(found.map(({ store_uid }) => store_uid))
  for (const [at, { uid }] of stores.entries()) {
    const is_twice = stores.findIndex((one) => one.uid === uid) !== at
    if (known.has(uid) && !is_twice) continue
    const why = is_twice ? `Memory store ${uid} is named twice.` : `There is no memory store ${JSON.stringify(uid)}.`
    throw new Fault('invalid_request', why, {
      errors: [{ pointer: `${pointer}/${at}/uid`, detail: is_twice ? 'named twice' : 'no such memory store' }],
    })
  }
}
