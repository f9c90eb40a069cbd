/**
 * What runs are given of memory, and what their agents add. The stores are those of the run's configuration, as far as
 * they still are there for it: one that was deleted since is passed over.
 */
import { type Kysely, type Selectable, sql } from 'kysely'
import { AgentConfig, type AttachedStore, Fault, type WrittenMemory } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Memories, Runs } from '../db/tables.ts'
import type { Caller, ExecutionCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { addMemory, changeContent } from './memory.ts'
import { superseded } from './transitions.ts'
import { visibleTo } from './visible.ts'

/** Characters of memories that an agent is given; those that were changed last go first. */
const GIVEN_CHARACTERS_MAX = 48_000

type Run = Pick<Selectable<Runs>, 'team_id' | 'owner_user_id' | 'config'>
type Given = AttachedStore & { description: string | null }

export type Kept = {
  /** May be absent where the run has one store that it may write to, or changes a memory. */
  store_uid?: string | undefined
  /** Of the one that is changed; absent: it is a new one. */
  memory_id?: string | undefined
  content: string
  reason?: string | undefined
}

export function rememberingEngine(room: Room) {
  const db = room.database.kysely

  return {
    /** Whether the caller's run has a store that it may write to. */
    async mayKeep(caller: Caller): Promise<boolean> {
      if (caller.kind !== 'execution') return false
      const run = await ownRun(db, caller)
      return run !== undefined && (await storesFor(db, run)).some(isWritable)
    },

    /** A new memory, or a new version of one that is in a store of the caller's run. */
    async keep(caller: ExecutionCaller, kept: Kept): Promise<WrittenMemory & { store_uid: string }> {
      return db.transaction().execute(async (write) => {
        const run = await ownRun(write, caller, true)
        if (!run) throw superseded()
        const writable = (await storesFor(write, run)).filter(isWritable)
        const store_uid = await placeOf(write, writable, kept)
        const { content, reason = null, memory_id } = kept
        const by = { user_id: null, run_id: caller.run_id }
        const now = room.clock.now()
        const written =
          memory_id === undefined
            ? await addMemory(write, {
                ...{ store_uid, content, reason, now },
                by: { ...by, source: 'AGENT', source_id: null },
              })
            : await changeContent(write, { store_uid, memory_id, content, reason, version: null, by, now })
        return { ...written, store_uid }
      })
    },
  }
}

const isWritable = ({ access }: Given): boolean => access === 'read_write'

async function ownRun(
  db: Kysely<Tables>,
  { run_id, execution_id }: ExecutionCaller,
  locked = false,
): Promise<Run | undefined> {
  const own = db
    .selectFrom('runs')
    .select(['team_id', 'owner_user_id', 'config'])
    .where('run_id', '=', run_id)
    .where('execution_id', '=', execution_id)
  return (locked ? own.forKeyShare() : own).executeTakeFirst()
}

/** Where it goes; refuses by name what the run may not write to. */
async function placeOf(write: Kysely<Tables>, writable: Given[], { store_uid, memory_id }: Kept): Promise<string> {
  const uids = writable.map(({ uid }) => uid)
  const which = uids.length === 0 ? 'It has none that it may write to.' : `It may write to: ${uids.join(', ')}.`
  if (memory_id !== undefined) {
    const memory = await write
      .selectFrom('memories')
      .select('store_uid')
      .where('memory_id', '=', memory_id)
      .where('store_uid', 'in', uids.length === 0 ? [''] : uids)
      .executeTakeFirst()
    if (memory) return memory.store_uid
    throw new Fault('resource_not_found', `There is no memory ${memory_id} that your run may change. ${which}`)
  }
  const [only, ...others] = uids
  const asked = store_uid ?? (others.length === 0 ? only : undefined)
  if (asked !== undefined && uids.includes(asked)) return asked
  if (asked !== undefined)
    throw new Fault('not_authorized', `Your run may not write to the memory store ${asked}. ${which}`)
  throw new Fault(
    'invalid_request',
    uids.length === 0 ? 'Your run has no memory store that it may write to.' : `Say which store. ${which}`,
  )
}

async function storesFor(db: Kysely<Tables>, run: Run): Promise<Given[]> {
  const { memory_stores = [] } = AgentConfig.pick({ memory_stores: true }).parse(run.config)
  if (memory_stores.length === 0) return []
  const rows = await db
    .selectFrom('memory_stores')
    .select(['store_uid', 'description'])
    .where(
      'store_uid',
      'in',
      memory_stores.map(({ uid }) => uid),
    )
    .where(visibleTo(run, 'memory_stores'))
    .where('deleted_at', 'is', null)
    .execute()
  const found = new Map(rows.map(({ store_uid, description }) => [store_uid, description]))
  return memory_stores.flatMap((store) => {
    const description = found.get(store.uid)
    return description === undefined ? [] : [{ ...store, description }]
  })
}

/** What its agent is told at the beginning; null: it has no stores. */
export async function renderMemories(db: Kysely<Tables>, run: Run): Promise<string | null> {
  const stores = await storesFor(db, run)
  if (stores.length === 0) return null
  const { rows } = await sql<Pick<Selectable<Memories>, 'memory_id' | 'store_uid' | 'content'>>`
    select memory_id, store_uid, content from memories
    where store_uid = any(${stores.map(({ uid }) => uid)}) and tombstoned_at is null
    order by updated_at desc, memory_id`.execute(db)
  let left = GIVEN_CHARACTERS_MAX
  const given = rows.filter(({ content }) => {
    left -= content.length
    return left >= 0
  })
  const texts = stores.map((store) => {
    const own = given.filter(({ store_uid }) => store_uid === store.uid)
    const missing = rows.filter(({ store_uid }) => store_uid === store.uid).length - own.length
    return renderStore(store, own, missing)
  })
  return [HEAD, ...texts, ...(stores.some(isWritable) ? [KEEPING] : [])].join('\n\n')
}

function renderStore(store: Given, memories: { memory_id: string; content: string }[], missing: number): string {
  const { uid, description, instructions, access } = store
  const title = description?.trim() ? description.trim().replace(/\s+/g, ' ') : 'Memory'
  const how = access === 'read_write' ? 'you may add to it' : 'read only'
  const lines = memories.map(({ memory_id, content }) => `- [${memory_id}] ${content.trim().replaceAll('\n', '\n  ')}`)
  return [
    `## ${title} (store ${uid}, ${how})`,
    instructions,
    ...(lines.length === 0 ? ['It holds nothing yet.'] : lines),
    ...(missing > 0 ? [`- … ${missing} older ${missing === 1 ? 'memory is' : 'memories are'} left out.`] : []),
  ].join('\n')
}

const HEAD = `# What is remembered

From earlier work. It may be out of date: where what you see differs, believe what you see.`

const KEEPING = `When you have learned something that will be of use beyond this task, keep it with the tool \
save_memory, in a few sentences that stand by themselves; correct what turned out wrong by its memory_id. Keep no \
secrets.`
