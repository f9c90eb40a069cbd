/**
 * Schedules that stand still though nobody paused them: their creator has left the team, or the team was deleted. They
 * are enabled and have no next time (`due_at`), until somebody takes them over, or the team is restored.
 */
import { type Kysely, sql } from 'kysely'
import type { Tables } from '../db/connect.ts'
import { timesOf } from './schedule-times.ts'

export const LEFT =
  'Who made this schedule has left the team: it makes no more runs. An admin of the team can take it over; it then ' +
  'goes on in their name.'

type Stopped = { schedule_id: string; name: string; owner_user_id: string | null }

/** Those that a member made: in the transaction that ends the membership. */
export async function stopSchedulesOf(
  write: Kysely<Tables>,
  { team_id, user_id, now }: { team_id: string; user_id: string; now: Date },
): Promise<Stopped[]> {
  const stopped = await write
    .updateTable('schedules')
    .set({ due_at: null, last_spawn_error: LEFT })
    .where('team_id', '=', team_id)
    .where('creator_id', '=', user_id)
    .where('deleted_at', 'is', null)
    .returning(['schedule_id', 'name', 'owner_user_id'])
    .execute()
  const ids = stopped.map(({ schedule_id }) => schedule_id)
  await giveUpWaiting(write, { ids, reason: 'Who made the schedule has left the team.', now })
  return stopped
}

/** All of a team, at its deletion. Answers how many would have had a next time. */
export async function stopSchedulesOfTeam(write: Kysely<Tables>, team_id: string, now: Date): Promise<number> {
  const stopped = await write
    .updateTable('schedules')
    .set({ due_at: null })
    .where('team_id', '=', team_id)
    .where('due_at', 'is not', null)
    .returning('schedule_id')
    .execute()
  const ids = stopped.map(({ schedule_id }) => schedule_id)
  await giveUpWaiting(write, { ids, reason: 'The team was deleted.', now })
  return stopped.length
}

/** What stood still with its team goes on from now, but for what somebody made who has left. */
export async function startSchedulesOfTeam(write: Kysely<Tables>, team_id: string, now: Date): Promise<number> {
  const rows = await write
    .selectFrom('schedules as s')
    .innerJoin('memberships as m', (on) =>
      on.onRef('m.user_id', '=', 's.creator_id').onRef('m.team_id', '=', 's.team_id'),
    )
    .select(['s.schedule_id', 's.cron_schedule', 's.time_zone'])
    .where('s.team_id', '=', team_id)
    .where('s.enabled', '=', true)
    .where('s.deleted_at', 'is', null)
    .where('s.due_at', 'is', null)
    .execute()
  for (const { schedule_id, ...plan } of rows) {
    const due_at = timesOf(plan).after(now)
    await write.updateTable('schedules').set({ due_at }).where('schedule_id', '=', schedule_id).execute()
  }
  return rows.length
}

type GivingUp = { ids: string[]; reason: string; now: Date }

/** What waits for the end of a run will have none. */
export async function giveUpWaiting(write: Kysely<Tables>, { ids, reason, now }: GivingUp): Promise<void> {
  await write
    .updateTable('firings')
    .set({ state: 'skipped', reason, settled_at: now })
    .where(sql<boolean>`schedule_id = any(${ids}::uuid[])`)
    .where('state', '=', 'waiting')
    .execute()
}
