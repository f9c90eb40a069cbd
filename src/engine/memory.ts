/**
 * Memory: stores of texts with versions. A change writes a version and moves the memory to it in one statement, from
 * the version that it was made from where that is said. What is deleted stays as a tombstone, and is never changed
 * again.
 */
import { randomUUID } from 'node:crypto'
import { type Kysely, type Selectable, sql } from 'kysely'
import {
  AttachedStore,
  type EditMemory,
  Fault,
  MEMORIES_MAX,
  Memory,
  MemoryStore,
  type NewMemory,
  type NewMemoryStore,
  TOMBSTONES_MAX,
  type WrittenMemory,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Memories, MemoryStores } from '../db/tables.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'
import { memoryColumns, memoryOf } from './memory-owners.ts'
import { personOf } from './runs.ts'
import { newUid } from './uid.ts'
import { ownedBy, visibleTo } from './visible.ts'

type Store = Selectable<MemoryStores>

export function memoryEngine(room: Room) {
  const { clock } = room
  const db = room.database.kysely

  const living = (caller: Caller) =>
    db.selectFrom('memory_stores').selectAll().where(visibleTo(caller, 'memory_stores')).where('deleted_at', 'is', null)

  async function find(caller: Caller, store_uid: string): Promise<Store> {
    const row = await living(caller).where('store_uid', '=', store_uid).executeTakeFirst()
    if (!row) throw storeNotFound(store_uid)
    return row
  }

  async function findMemory(caller: Caller, store_uid: string, memory_id: string): Promise<Selectable<Memories>> {
    await find(caller, store_uid)
    return readMemory(db, store_uid, memory_id)
  }

  /** Identities of which it is, or to which it was attached, that the caller sees. */
  async function agentsOf(caller: Caller, { store_uid, identity_uid }: Store) {
    const rows = await db
      .selectFrom('identities')
      .select(['identity_uid', 'name', 'auto_memory', ...memoryColumns])
      .where(visibleTo(caller, 'identities'))
      .where('deleted_at', 'is', null)
      .where(
        sql<boolean>`(identity_uid = ${identity_uid} and auto_memory or exists (select from identity_stores l
          where l.identity_uid = identities.identity_uid and l.store_uid = ${store_uid}))`,
      )
      .orderBy('created_at')
      .orderBy('identity_uid')
      .execute()
    return rows.flatMap((row) => {
      const { attached_stores, auto_memory } = memoryOf(row)
      const given = [...attached_stores, auto_memory.store].find((one) => one?.uid === store_uid)
      return given ? [{ ...AttachedStore.parse(given), uid: row.identity_uid, name: row.name }] : []
    })
  }

  return {
    async stores(caller: Caller): Promise<{ memory_stores: MemoryStore[] }> {
      const rows = await living(caller).orderBy('created_at').orderBy('store_uid').execute()
      return { memory_stores: rows.map(renderStore) }
    },

    async createStore(caller: Caller, { description, team }: NewMemoryStore): Promise<MemoryStore> {
      const creator_id = personOf(caller)
      const now = clock.now()
      const owned = ownedBy(caller, team)
      const row = { store_uid: newUid(), ...owned, description: description || null, creator_id }
      const made = await db
        .insertInto('memory_stores')
        .values({ ...row, created_at: now, updated_at: now })
        .returningAll()
        .executeTakeFirstOrThrow()
      return renderStore(made)
    },

    store: async (caller: Caller, store_uid: string): Promise<MemoryStore> =>
      renderStore(await find(caller, store_uid)),

    async updateStore(
      caller: Caller,
      store_uid: string,
      { description }: { description?: string | null | undefined },
    ): Promise<MemoryStore> {
      personOf(caller)
      const changed = await db
        .updateTable('memory_stores')
        .set({ description: description || null, updated_at: clock.now() })
        .where('store_uid', '=', store_uid)
        .where(visibleTo(caller, 'memory_stores'))
        .where('deleted_at', 'is', null)
        .returningAll()
        .executeTakeFirst()
      if (!changed) throw storeNotFound(store_uid)
      return renderStore(changed)
    },

    async deleteStore(caller: Caller, store_uid: string): Promise<Record<string, never>> {
      personOf(caller)
      const agents = await agentsOf(caller, await find(caller, store_uid))
      if (agents.length > 0) {
        const names = agents.map(({ name }) => JSON.stringify(name)).join(', ')
        throw new Fault('conflict', `Agents have this memory store: ${names}. Take it from them first.`, {
          retryable: false,
        })
      }
      const deleted = await db
        .updateTable('memory_stores')
        .set({ deleted_at: clock.now() })
        .where('store_uid', '=', store_uid)
        .where('deleted_at', 'is', null)
        .executeTakeFirst()
      if (deleted.numUpdatedRows === 0n) throw storeNotFound(store_uid)
      return {}
    },

    agents: async (caller: Caller, store_uid: string) => ({
      agents: await agentsOf(caller, await find(caller, store_uid)),
    }),

    async list(caller: Caller, store_uid: string): Promise<{ memories: Memory[] }> {
      await find(caller, store_uid)
      const { rows } = await sql<Selectable<Memories>>`
        select * from memories where store_uid = ${store_uid} and (tombstoned_at is null or memory_id in (
          select memory_id from memories where store_uid = ${store_uid} and tombstoned_at is not null
          order by tombstoned_at desc limit ${TOMBSTONES_MAX}))
        order by created_at, memory_id`.execute(db)
      return { memories: rows.map(renderMemory) }
    },

    async create(caller: Caller, store_uid: string, { content, reason, source_id }: NewMemory): Promise<WrittenMemory> {
      const user_id = personOf(caller)
      await find(caller, store_uid)
      const by = { source: 'MANUAL' as const, source_id: source_id ?? null, user_id, run_id: null }
      return db
        .transaction()
        .execute((write) => addMemory(write, { store_uid, content, reason: reason ?? null, by, now: clock.now() }))
    },

    async update(
      caller: Caller,
      { store_uid, memory_id }: { store_uid: string; memory_id: string },
      { content, reason, version }: EditMemory,
    ): Promise<WrittenMemory> {
      const user_id = personOf(caller)
      await find(caller, store_uid)
      const by = { user_id, run_id: null }
      const change = { store_uid, memory_id, content, reason: reason ?? null, version: version ?? null, by }
      return changeContent(db, { ...change, now: clock.now() })
    },

    async delete(
      caller: Caller,
      { store_uid, memory_id }: { store_uid: string; memory_id: string },
    ): Promise<Record<string, never>> {
      personOf(caller)
      await findMemory(caller, store_uid, memory_id)
      const now = clock.now()
      await db
        .updateTable('memories')
        .set({ tombstoned_at: now, updated_at: now })
        .where('memory_id', '=', memory_id)
        .where('tombstoned_at', 'is', null)
        .execute()
      return {}
    },

    async versions(caller: Caller, { store_uid, memory_id }: { store_uid: string; memory_id: string }) {
      await findMemory(caller, store_uid, memory_id)
      const rows = await db
        .selectFrom('memory_versions')
        .selectAll()
        .where('memory_id', '=', memory_id)
        .orderBy('version')
        .execute()
      return {
        versions: rows.map(({ version_id, version, content, reason, created_at }) => ({
          uid: version_id,
          version,
          content,
          reason,
          created_at: created_at.toISOString(),
        })),
      }
    },
  }
}

/** A person, or the agent of a run. */
type Writer = { user_id: string | null; run_id: string | null }

type Addition = {
  store_uid: string
  content: string
  reason: string | null
  by: Writer & { source: Memory['source']; source_id: string | null }
  now: Date
}

/**
 * Within a transaction: the store's row is locked, so that it never holds more than it may. What a run says again,
 * because the answer was lost perhaps, is the memory that it made of it.
 */
export async function addMemory(
  write: Kysely<Tables>,
  { store_uid, content, reason, by, now }: Addition,
): Promise<WrittenMemory> {
  await write
    .selectFrom('memory_stores')
    .select('store_uid')
    .where('store_uid', '=', store_uid)
    .forNoKeyUpdate()
    .execute()
  const { source, source_id, user_id, run_id } = by
  const same = await write
    .selectFrom('memories')
    .select(['memory_id', 'version_id'])
    .where('store_uid', '=', store_uid)
    .where('source_run_id', '=', run_id)
    .where('content', '=', content)
    .where('tombstoned_at', 'is', null)
    .executeTakeFirst()
  if (same) return same
  const { held } = await write
    .selectFrom('memories')
    .select(sql<number>`count(*)::int`.as('held'))
    .where('store_uid', '=', store_uid)
    .where('tombstoned_at', 'is', null)
    .executeTakeFirstOrThrow()
  if (held >= MEMORIES_MAX) {
    throw new Fault(
      'invalid_request',
      `Memory store ${store_uid} holds ${held} memories, which is the most. Change one of them, or delete what is no longer of use.`,
    )
  }
  const memory = { memory_id: randomUUID(), version_id: randomUUID() }
  await write
    .insertInto('memories')
    .values({
      ...memory,
      ...{ store_uid, content, source, source_id, source_run_id: run_id, version: 1 },
      created_at: now,
      updated_at: now,
    })
    .execute()
  await write
    .insertInto('memory_versions')
    .values({ ...memory, version: 1, content, reason, user_id, run_id, created_at: now })
    .execute()
  return memory
}

type Change = {
  store_uid: string
  memory_id: string
  content: string
  reason: string | null
  /** Only from this one; null: from whichever there is. */
  version: number | null
  by: Writer
  now: Date
}

export async function changeContent(write: Kysely<Tables>, change: Change): Promise<WrittenMemory> {
  const { store_uid, memory_id, content, reason, version, by, now } = change
  const version_id = randomUUID()
  const { rows } = await sql<WrittenMemory>`
    with changed as (
      update memories set version = version + 1, version_id = ${version_id}, content = ${content}, updated_at = ${now}
      where memory_id = ${memory_id} and store_uid = ${store_uid} and tombstoned_at is null
        and (${version}::int is null or version = ${version})
      returning memory_id, version
    )
    insert into memory_versions (version_id, memory_id, version, content, reason, user_id, run_id, created_at)
    select ${version_id}, memory_id, version, ${content}, ${reason}, ${by.user_id}, ${by.run_id}, ${now} from changed
    returning memory_id, version_id`.execute(write)
  const [written] = rows
  if (written) return written
  const there = await readMemory(write, store_uid, memory_id)
  if (there.tombstoned_at !== null)
    throw new Fault('invalid_request', `Memory ${memory_id} was deleted. Add what is to be remembered as a new one.`)
  throw new Fault(
    'conflict',
    `Memory ${memory_id} has been changed since version ${version}; it is at version ${there.version}. Read it, and change that.`,
    { retryable: false },
  )
}

async function readMemory(db: Kysely<Tables>, store_uid: string, memory_id: string): Promise<Selectable<Memories>> {
  const row = await db
    .selectFrom('memories')
    .selectAll()
    .where('memory_id', '=', memory_id)
    .where('store_uid', '=', store_uid)
    .executeTakeFirst()
  if (!row) throw new Fault('resource_not_found', `Memory store ${store_uid} has no memory ${memory_id}.`)
  return row
}

function renderStore(row: Store): MemoryStore {
  return MemoryStore.parse({
    uid: row.store_uid,
    ...ownerOf(row),
    description: row.description,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  })
}

function ownerOf({ identity_uid, owner_user_id, team_id }: Store): Pick<MemoryStore, 'owner_type' | 'owner_uid'> {
  if (identity_uid !== null) return { owner_type: 'service_account', owner_uid: identity_uid }
  if (owner_user_id !== null) return { owner_type: 'user', owner_uid: owner_user_id }
  return { owner_type: 'team', owner_uid: team_id }
}

function renderMemory(row: Selectable<Memories>): Memory {
  return Memory.parse({
    ...row,
    uid: row.memory_id,
    is_tombstoned: row.tombstoned_at !== null,
    tombstoned_at: row.tombstoned_at?.toISOString() ?? null,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  })
}

const storeNotFound = (store_uid: string): Fault =>
  new Fault('resource_not_found', `There is no memory store ${store_uid}.`)
