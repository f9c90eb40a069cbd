/** The team's own settings. */
import { type ChangeTeamLimits, TeamLimits } from '../contract/index.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'

export function teamEngine(room: Room) {
  const db = room.database.kysely

  async function limits(caller: Caller): Promise<TeamLimits> {
    const team = await db
      .selectFrom('teams')
      .selectAll()
      .where('team_id', '=', caller.team_id)
      .executeTakeFirstOrThrow()
    return TeamLimits.parse(team)
  }

  return {
    limits,

    async changeLimits(caller: Caller, change: ChangeTeamLimits): Promise<TeamLimits> {
      if (Object.keys(change).length > 0) {
        await db.updateTable('teams').set(change).where('team_id', '=', caller.team_id).execute()
        room.bell.ring('queue', {})
      }
      return limits(caller)
    },
  }
}
