/**
 * Memory: stores of what was learned, a team's or a person's, which runs are given with their task where their
 * configuration or their agent identity names them. Paths and fields are those of the public Oz v1 API; ours are
 * marked.
 *
 * A memory is a text with versions. What is deleted leaves a tombstone: no run is given it any more, and who it was
 * and what it said can still be read.
 */
import { z } from 'zod'
import { AttachedStore, NoNul } from './config.ts'
import { Uid } from './environments.ts'
import { Nothing, route } from './route.ts'
import { RunId, Timestamp } from './run-states.ts'

/** Of one memory, in UTF-16 units. */
export const MEMORY_LENGTH_MAX = 16_384
/** Living memories of one store. */
export const MEMORIES_MAX = 1_000
/** The last tombstones that a list shows. */
export const TOMBSTONES_MAX = 200
const DESCRIPTION_LENGTH_MAX = 1_024
const REASON_LENGTH_MAX = 1_024

export const MEMORY_OWNERS = ['user', 'service_account', 'team'] as const

export const MemoryStore = z.object({
  uid: Uid,
  /** `service_account`: the automatic memory of the agent identity that `owner_uid` names. */
  owner_type: z.enum(MEMORY_OWNERS),
  owner_uid: z.string(),
  description: z.string().nullable(),
  created_at: Timestamp,
  updated_at: Timestamp,
})
export type MemoryStore = z.infer<typeof MemoryStore>

export const Memory = z.object({
  uid: z.uuid(),
  content: z.string(),
  version_id: z.uuid(),
  /** MANUAL: a person's; AGENT (ours): written by the agent of `source_run_id`. */
  source: z.enum(['MANUAL', 'AGENT']),
  source_id: z.string().nullable(),
  source_run_id: RunId.nullable(),
  is_tombstoned: z.boolean(),
  tombstoned_at: Timestamp.nullable(),
  created_at: Timestamp,
  updated_at: Timestamp,
})
export type Memory = z.infer<typeof Memory>

export const MemoryContent = NoNul.max(
  MEMORY_LENGTH_MAX,
  `A memory has at most ${MEMORY_LENGTH_MAX} characters: keep what is longer in a repository, and remember where.`,
).refine((text) => text.trim() !== '', 'A memory says something.')
export const MemoryReason = NoNul.max(REASON_LENGTH_MAX)

const written = {
  content: MemoryContent,
  /** Why it was written. */
  reason: MemoryReason.nullish(),
}

export const NewMemory = z.object({
  ...written,
  /** A new one begins with version 1. */
  version: z.union([z.literal(0), z.literal(1)], 'A new memory begins with version 1: leave it out.').nullish(),
  source: z.literal('MANUAL').default('MANUAL'),
  source_id: NoNul.max(256).nullish(),
})
export type NewMemory = z.infer<typeof NewMemory>

export const EditMemory = z.object({
  ...written,
  /** The version that it was made from: where another has come since, nothing is changed. */
  version: z.int().positive().nullish(),
})
export type EditMemory = z.infer<typeof EditMemory>

export const WrittenMemory = z.object({ memory_id: z.uuid(), version_id: z.uuid() })
export type WrittenMemory = z.infer<typeof WrittenMemory>

export const MemoryVersion = z.object({
  uid: z.uuid(),
  version: z.int(),
  content: z.string(),
  reason: z.string().nullable(),
  created_at: Timestamp,
})
export type MemoryVersion = z.infer<typeof MemoryVersion>

const Description = NoNul.max(DESCRIPTION_LENGTH_MAX).nullish()
export const NewMemoryStore = z.object({ description: Description, team: z.boolean().optional() })
export type NewMemoryStore = z.infer<typeof NewMemoryStore>

const StorePath = z.object({ store_uid: Uid })
const MemoryPath = StorePath.extend({ memory_id: z.uuid() })
const tag = 'Memory'
const callers = ['user'] as const

export const memoryRoutes = {
  stores: route({
    name: 'memory.stores',
    method: 'GET',
    path: '/memory_stores',
    tag,
    callers,
    summary: "The memory stores of the team, and the caller's own, oldest first.",
    answer: z.object({ memory_stores: z.array(MemoryStore) }),
  }),
  createStore: route({
    name: 'memory.create_store',
    method: 'POST',
    path: '/memory_stores',
    tag,
    callers,
    summary: 'Create a memory store (ours); `team` false: for its maker alone, and for personal runs.',
    body: NewMemoryStore,
    answer: MemoryStore,
    status: 201,
  }),
  store: route({
    name: 'memory.store',
    method: 'GET',
    path: '/memory_stores/{store_uid}',
    tag,
    callers,
    summary: 'One memory store.',
    params: StorePath,
    answer: MemoryStore,
  }),
  updateStore: route({
    name: 'memory.update_store',
    method: 'PUT',
    path: '/memory_stores/{store_uid}',
    tag,
    callers,
    summary: 'Say what a memory store is for; null or absent: nothing.',
    params: StorePath,
    body: z.object({ description: Description }),
    answer: MemoryStore,
  }),
  deleteStore: route({
    name: 'memory.delete_store',
    method: 'DELETE',
    path: '/memory_stores/{store_uid}',
    tag,
    callers,
    summary: 'Delete a memory store (ours): 409 while agent identities have it. No run is given it any more.',
    params: StorePath,
    answer: Nothing,
    status: 204,
  }),
  agents: route({
    name: 'memory.agents',
    method: 'GET',
    path: '/memory_stores/{store_uid}/agents',
    tag,
    callers,
    summary: 'The agent identities whose runs are given a store.',
    params: StorePath,
    answer: z.object({
      agents: z.array(AttachedStore.extend({ uid: Uid, name: z.string() })),
    }),
  }),
  list: route({
    name: 'memory.list',
    method: 'GET',
    path: '/memory_stores/{store_uid}/memories',
    tag,
    callers,
    summary: `The memories of a store, oldest first, with the last ${TOMBSTONES_MAX} tombstones.`,
    params: StorePath,
    answer: z.object({ memories: z.array(Memory) }),
  }),
  create: route({
    name: 'memory.create',
    method: 'POST',
    path: '/memory_stores/{store_uid}/memories',
    tag,
    callers,
    summary: 'Add a memory to a store.',
    params: StorePath,
    body: NewMemory,
    answer: WrittenMemory,
  }),
  update: route({
    name: 'memory.update',
    method: 'PUT',
    path: '/memory_stores/{store_uid}/memories/{memory_id}',
    tag,
    callers,
    summary: 'Change what a memory says; what it said stays as a version. With `version` only if nobody did since.',
    params: MemoryPath,
    body: EditMemory,
    answer: WrittenMemory,
  }),
  delete: route({
    name: 'memory.delete',
    method: 'DELETE',
    path: '/memory_stores/{store_uid}/memories/{memory_id}',
    tag,
    callers,
    summary: 'Delete a memory; a tombstone stays. Repeating it changes nothing.',
    params: MemoryPath,
    answer: Nothing,
    status: 204,
  }),
  versions: route({
    name: 'memory.versions',
    method: 'GET',
    path: '/memory_stores/{store_uid}/memories/{memory_id}/versions',
    tag,
    callers,
    summary: 'What a memory has said, oldest first.',
    params: MemoryPath,
    answer: z.object({ versions: z.array(MemoryVersion) }),
  }),
}
