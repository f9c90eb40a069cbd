/** Notices: what an agent had to tell the person behind its run, while it works. Kept with the run. */
import { randomUUID } from 'node:crypto'
import type { RawBuilder } from 'kysely'
import { sql } from 'kysely'
import type { Notice } from '../contract/index.ts'
import type { ExecutionCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { logged } from './log.ts'

/** Notices that are shown with a run; older ones are kept. */
const SHOWN_MAX = 10

export function noticesEngine(room: Room) {
  return {
    /** The same as the run's last notice is that one again: its program did not hear that it was kept. */
    async tell(caller: ExecutionCaller, message: string): Promise<{ notice_id: string }> {
      const { run_id, team_id, execution_id } = caller
      return logged(room, async (write, events) => {
        await write.selectFrom('runs').select('run_id').where('run_id', '=', run_id).forNoKeyUpdate().execute()
        const last = await write
          .selectFrom('notices')
          .select(['notice_id', 'message'])
          .where('run_id', '=', run_id)
          .orderBy('created_at', 'desc')
          .limit(1)
          .executeTakeFirst()
        if (last?.message === message) return { notice_id: last.notice_id }
        const notice_id = randomUUID()
        const created_at = room.clock.now()
        await write.insertInto('notices').values({ notice_id, team_id, run_id, message, created_at }).execute()
        events.push({ team_id, event_type: 'user_notified', run_id, ref_id: notice_id, execution_id })
        return { notice_id }
      })
    },
  }
}

/** The last notices of a row of `runs`, oldest first, as a scalar subquery. */
export const noticesOf: RawBuilder<Notice[]> = sql<Notice[]>`(
  select coalesce(jsonb_agg(jsonb_build_object('notice_id', n.notice_id, 'message', n.message,
    'created_at', to_char(n.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
    order by n.created_at), '[]')
  from (
    select * from notices where notices.run_id = runs.run_id order by created_at desc limit ${sql.lit(SHOWN_MAX)}
  ) n)`
