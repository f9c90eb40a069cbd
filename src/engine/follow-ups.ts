/** Follow-ups: what a person says to a run besides its prompt, wherever the run is by then. */
import { sql } from 'kysely'
import { Fault, type FollowUp, type RunSource } from '../contract/index.ts'
import type { attachmentsEngine } from './attachments.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'
import type { messagesEngine } from './messages.ts'
import type { plansEngine } from './plans.ts'
import { personOf, runNotFound } from './runs.ts'
import { visibleTo } from './visible.ts'

type Reach = {
  messages: ReturnType<typeof messagesEngine>
  plans: ReturnType<typeof plansEngine>
  attachments: ReturnType<typeof attachmentsEngine>
}

const SUBJECT_CHARACTERS = 120

/** Runs that a machine asked for: nobody reads what comes after. As in the public API. */
const CLOSED_SOURCES: readonly string[] = [
  'GITHUB_ACTION',
  'GITHUB_WEBHOOK',
  'GITLAB_WEBHOOK',
  'RUN_SCORER',
  'SELF_IMPROVEMENT',
  'AUTOFIX',
  'BENCHMARK_TRIAL',
] satisfies RunSource[]

export function followUpsEngine(room: Room, { messages, plans, attachments }: Reach) {
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
        .select(['open_plan', 'source'])
        .where('run_id', '=', run_id)
        .where(visibleTo(caller, 'runs'))
        .executeTakeFirst()
      if (!run) throw runNotFound(run_id)
      if (CLOSED_SOURCES.includes(run.source)) {
        throw new Fault(
          'operation_not_supported',
          `Run ${run_id} comes from ${run.source}, whose runs take no follow-ups. Start another run.`,
        )
      }
      if (run.open_plan !== null) {
        const untold = await attachments.untold(run_id, options.key)
        await plans.revise(caller, run_id, run.open_plan, message + untold.text)
        await untold.said()
        return {}
      }
      // Not yet started: the prompt itself grows.
      const added = await sql<{ run_id: string }>`
        with grown as (
          update runs set prompt = prompt || E'\\n\\n' || ${message}, updated_at = ${room.clock.now()},
            mode = coalesce(${body.mode ?? null}, mode)
          where run_id = ${run_id} and state = 'QUEUED' and executions = 0
          returning run_id, title, prompt, config
        ), texts as (
          update run_texts t set text = run_text(g.title, g.prompt, g.config) from grown g where t.run_id = g.run_id
        )
        select run_id from grown`.execute(db)
      if (added.rows.length > 0) return {}
      const subject = (message.trim().split('\n', 1)[0] ?? '').slice(0, SUBJECT_CHARACTERS)
      const untold = await attachments.untold(run_id, options.key)
      const said = { to: [run_id], subject, body: message + untold.text }
      await messages.send(caller, said, { ...options, mode: body.mode })
      await untold.said()
      return {}
    },
  }
}
