/** Follow-ups: what a person says to a run besides its prompt, wherever the run is by then. */
import { type Kysely, sql } from 'kysely'
import { Fault, type FollowUp, type RunSource } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { attachmentsEngine } from './attachments.ts'
import { isOver } from './births.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'
import { once } from './idempotency.ts'
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
      const run = await db
        .selectFrom('runs')
        .select(['open_plan', 'source', 'state'])
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
      const untold = await attachments.untold(run_id, options.key)
      const message = wordsOf(body, { run, has_files: untold.text !== '' })
      if (run.open_plan !== null) {
        await plans.revise(caller, run_id, run.open_plan, message + untold.text)
        await untold.said()
        return {}
      }
      // Not yet started: the prompt itself grows, once for a key.
      const use = { caller, route: 'followUps.create', key: options.key, body: { run_id, body }, now: room.clock.now() }
      const { answer: grown } = await once(db, use, (write) => grow(write ?? db, use.now, { run_id, message, body }))
      if (grown) return {}
      const subject = (message.trim().split('\n', 1)[0] ?? '').slice(0, SUBJECT_CHARACTERS)
      const said = { to: [run_id], subject, body: message + untold.text }
      await messages.send(caller, said, { ...options, mode: body.mode })
      await untold.said()
      return {}
    },
  }
}

/** An ended run may be asked to go on without a word, and files speak for themselves. */
function wordsOf(
  { message }: FollowUp,
  { run, has_files }: { run: { state: string; open_plan: number | null }; has_files: boolean },
): string {
  if (message?.trim()) return message
  if (run.open_plan === null && has_files) return 'Look at these.'
  if (run.open_plan === null && isOver(run.state)) return 'Go on.'
  throw new Fault('invalid_request', 'A follow-up needs a message.', {
    errors: [{ pointer: '/message', detail: 'Say something.' }],
  })
}

async function grow(
  write: Kysely<Tables>,
  now: Date,
  { run_id, message, body }: { run_id: string; message: string; body: FollowUp },
): Promise<boolean> {
  const { rows } = await sql`
    with grown as (
      update runs set prompt = prompt || E'\\n\\n' || ${message}, updated_at = ${now},
        mode = coalesce(${body.mode ?? null}, mode)
      where run_id = ${run_id} and state = 'QUEUED' and executions = 0
      returning run_id, team_id, title, prompt, config
    ), texts as (
      update run_texts t set text = run_text(g.title, g.prompt, g.config) from grown g
      where t.team_id = g.team_id and t.run_id = g.run_id
    )
    select run_id from grown`.execute(write)
  return rows.length > 0
}
