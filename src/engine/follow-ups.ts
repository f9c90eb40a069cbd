/** Follow-ups: what a person says to a run besides its prompt, wherever the run is by then. */
import { sql } from 'kysely'
import { Fault, type FollowUp } from '../contract/index.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'
import type { messagesEngine } from './messages.ts'
import type { plansEngine } from './plans.ts'
import { personOf, runNotFound } from './runs.ts'
import { visibleTo } from './visible.ts'

type Reach = { messages: ReturnType<typeof messagesEngine>; plans: ReturnType<typeof plansEngine> }

const SUBJECT_CHARACTERS = 120

export function followUpsEngine(room: Room, { messages, plans }: Reach) {
  const db = room.database.kysely

  return {
    async create(caller: Caller, run_id: string, body: FollowUp, options: { key?: string | undefined } = {}) {
      personOf(caller)
      const message = body.message?.trim() ? body.message : undefined
      if (message === undefined) {
        throw new Fault('invalid_request', 'A follow-up needs a message.', {
          errors: [{ pointer: '/message', detail: 'Say something.' }],
        })
      }
      const run = await db
        .selectFrom('runs')
        .select(['open_plan'])
        .where('run_id', '=', run_id)
        .where(visibleTo(caller, 'runs'))
        .executeTakeFirst()
      if (!run) throw runNotFound(run_id)
      if (run.open_plan !== null) {
        await plans.revise(caller, run_id, run.open_plan, message)
        return {}
      }
      // Not yet started: the prompt itself grows.
      const added = await db
        .updateTable('runs')
        .set({
          prompt: sql<string>`prompt || E'\\n\\n' || ${message}`,
          updated_at: room.clock.now(),
          ...(body.mode === undefined ? {} : { mode: body.mode }),
        })
        .where('run_id', '=', run_id)
        .where('state', '=', 'QUEUED')
        .where('executions', '=', 0)
        .executeTakeFirst()
      if (added.numUpdatedRows > 0n) return {}
      const subject = (message.trim().split('\n', 1)[0] ?? '').slice(0, SUBJECT_CHARACTERS)
      await messages.send(caller, { to: [run_id], subject, body: message }, { ...options, mode: body.mode })
      return {}
    },
  }
}
