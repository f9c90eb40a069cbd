/** What a run takes from who makes it: whose it is, who counts as its creator, in whose name it is worked on. */
import { type Kysely, sql } from 'kysely'
import { type CreateRun, Fault, type Run } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Caller, Owned, UserCaller } from './caller.ts'
import { personOf } from './runs.ts'
import { ownedBy } from './visible.ts'

export type Maker = Owned & {
  creator_id: string
  /** Set: this agent counts as the creator, and `creator_id` is who made its key. */
  creator_identity_uid: string | null
}

type Asked = { team?: boolean | undefined; on_behalf_of?: string | undefined }

/** Of a run without a parent, or a batch; a child takes it from its parent. */
export async function makerOf(db: Kysely<Tables>, caller: Caller, asked: Asked): Promise<Maker> {
  const user_id = personOf(caller)
  const person = caller as UserCaller // personOf refuses all others.
  const owned = ownedBy(person, asked.team)
  if (asked.on_behalf_of !== undefined) {
    const creator_id = await onBehalfOf(db, person, asked.on_behalf_of)
    return { ...owned, creator_id, creator_identity_uid: null }
  }
  return { ...owned, creator_id: user_id, creator_identity_uid: person.identity_uid }
}

/** Who changes a thing, or makes it: the person, and the agent whose key it is. */
export function editorOf(caller: Caller): { editor_id: string; editor_identity_uid: string | null } {
  const editor_id = personOf(caller)
  return { editor_id, editor_identity_uid: caller.kind === 'user' ? caller.identity_uid : null }
}

type Creator = {
  creator_id: string
  display_name: string
  email: string | null
  creator_identity_uid: string | null
  creator_identity_name: string | null
}

export function creatorOf(row: Creator): Run['creator'] {
  const { creator_identity_uid, creator_id, display_name, email } = row
  if (creator_identity_uid !== null)
    return { type: 'service_account', uid: creator_identity_uid, display_name: row.creator_identity_name ?? '' }
  return { type: 'user', uid: creator_id, display_name, ...(email === null ? {} : { email }) }
}

/** An agent's key works in the agent's name alone. */
export function inNameOf<T extends Pick<CreateRun, 'agent_identity_uid'>>(caller: Caller, body: T): T {
  if (caller.kind !== 'user' || caller.identity_uid === null) return body
  const { agent_identity_uid = caller.identity_uid } = body
  if (agent_identity_uid === caller.identity_uid) return { ...body, agent_identity_uid }
  throw new Fault(
    'not_authorized',
    `This key acts as the agent ${caller.identity_uid} alone. Leave out agent_identity_uid, or use another key.`,
  )
}

async function onBehalfOf(db: Kysely<Tables>, caller: UserCaller, asked: string): Promise<string> {
  if (caller.identity_uid === null)
    throw new Fault('not_authorized', 'Only the key of an agent may act on behalf of somebody.')
  const identity = await db
    .selectFrom('identities')
    .select(['name', 'on_behalf_of_enabled'])
    .where('identity_uid', '=', caller.identity_uid)
    .executeTakeFirstOrThrow()
  if (!identity.on_behalf_of_enabled) {
    throw new Fault(
      'not_authorized',
      `Agent identity ${JSON.stringify(identity.name)} may not act on behalf of others: on_behalf_of_enabled is off.`,
    )
  }
  const found = await db
    .selectFrom('memberships')
    .innerJoin('users', 'users.user_id', 'memberships.user_id')
    .select('users.user_id')
    .where('memberships.team_id', '=', caller.team_id)
    .where((u) =>
      u.or([
        u(sql`users.user_id::text`, '=', asked.trim().toLowerCase()),
        u(sql`lower(users.email)`, '=', asked.trim().toLowerCase()),
      ]),
    )
    .execute()
  const [person] = found
  if (person !== undefined && found.length === 1) return person.user_id
  const what = found.length > 1 ? 'Several members of the team have' : 'No member of the team has'
  throw new Fault('invalid_request', `${what} the e-mail address or id ${JSON.stringify(asked)}.`, {
    errors: [{ pointer: '/on_behalf_of', detail: found.length > 1 ? 'several of this e-mail' : 'no such member' }],
  })
}
