/**
 * What runs are filtered by besides their state, their times and their words: labels, which are hashes in the indexes
 * of the lists. `run_labels` in the migrations says which a run has.
 */
import { sql } from 'kysely'
import { Fault, type ListRuns, NO_ENVIRONMENT } from '../contract/index.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'
import { visibleTo } from './visible.ts'

type Kind =
  | 'source'
  | 'execution_location'
  | 'creator'
  | 'executor'
  | 'schedule'
  | 'parent'
  | 'name'
  | 'model'
  | 'environment'
  | 'skill'
  | 'metadata'
export type Label = { kind: Kind; value: string }

const UID = /^[A-Za-z0-9]{22}$/

/** Groups of labels, of each of which a run must have one; null: no run can. */
export async function labelsOf(room: Room, caller: Caller, query: ListRuns): Promise<Label[][] | null> {
  if (query.automation_id !== undefined) return null
  const { creator, executor, environment_id, factory_uid, metadata = {} } = query
  const groups: Label[][] = [
    ...one('source', query.source),
    ...one('execution_location', query.execution_location),
    ...one('name', query.name),
    ...one('model', query.model_id),
    ...one('schedule', query.schedule_id?.toLowerCase()),
    ...one('skill', skillOf(query)),
    ...(query.top ? one('parent', 'none') : []),
    ...Object.entries(metadata).flatMap(([key, value]) => one('metadata', `${key}=${value}`)),
  ]
  if (creator !== undefined) groups.push(labels('creator', await peopleOf(room, creator)))
  if (executor !== undefined) groups.push(labels('executor', await peopleOf(room, executor)))
  if (environment_id !== undefined)
    groups.push(labels('environment', await environmentsOf(room, caller, environment_id)))
  if (factory_uid !== undefined) groups.push(labels('executor', await agentsOf(room, caller, factory_uid)))
  return groups.some((group) => group.length === 0) ? null : groups
}

const labels = (kind: Kind, values: string[]): Label[] => values.map((value) => ({ kind, value }))
const one = (kind: Kind, value: string | undefined): Label[][] => (value === undefined ? [] : [[{ kind, value }]])

/** One name for two parameters of the public API. */
export function skillOf({ skill, skill_spec }: Pick<ListRuns, 'skill' | 'skill_spec'>): string | undefined {
  if (skill !== undefined && skill_spec !== undefined && skill !== skill_spec) {
    throw new Fault('invalid_request', '`skill` and `skill_spec` mean the same: give one of them.', {
      errors: [{ pointer: '/skill', detail: 'skill_spec is given, too' }],
    })
  }
  return skill ?? skill_spec
}

/** Whoever has this uid or e-mail address; an unknown uid is that of nobody's run. */
async function peopleOf({ database }: Room, asked: string): Promise<string[]> {
  if (!asked.includes('@')) return [UID.test(asked) ? asked : asked.toLowerCase()]
  const found = await database.kysely
    .selectFrom('users')
    .select('user_id')
    .where(sql<string>`lower(email)`, '=', asked.trim().toLowerCase())
    .execute()
  return found.map(({ user_id }) => user_id)
}

/** By uid, also of one that was deleted; else by name. */
async function environmentsOf({ database }: Room, caller: Caller, asked: string): Promise<string[]> {
  if (NO_ENVIRONMENT.includes(asked.toLowerCase())) return ['empty-environment']
  if (UID.test(asked)) return [asked]
  const found = await database.kysely
    .selectFrom('environments')
    .select('environment_uid')
    .where(visibleTo(caller, 'environments'))
    .where(sql<string>`lower(name)`, '=', asked.toLowerCase())
    .where('deleted_at', 'is', null)
    .execute()
  return found.map(({ environment_uid }) => environment_uid)
}

async function agentsOf({ database }: Room, caller: Caller, factory_uid: string): Promise<string[]> {
  const found = await database.kysely
    .selectFrom('identities')
    .select('identity_uid')
    .where(visibleTo(caller, 'identities'))
    .where('factory_uid', '=', factory_uid)
    .execute()
  return found.map(({ identity_uid }) => identity_uid)
}
