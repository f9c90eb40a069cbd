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
import { announce } from './transitions.ts'
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
        .select(['open_plan', 'source', 'state', 'execution_id'])
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
      const { key } = options
      const untold = await attachments.untold(run_id, key)
      const message = wordsOf(body, untold.text !== '')
      const now = room.clock.now()
      // What becomes of it is decided once for a key: the same again is no second message, wherever the run is by then.
      const use = { caller, route: 'followUps.create', key, body: { run_id, body }, now }
      const { answer: taken } = await once(db, use, async (write) => {
        checkWords(body, { run, has_files: untold.text !== '' })
        const { open_plan: version } = run
        if (version === null) return grow(write ?? db, now, { run_id, message, body })
        const revise = (within: Kysely<Tables>) =>
          plans.reviseIn(within, { caller, run_id, version, now }, message + untold.text)
        await (write === null ? db.transaction().execute(revise) : revise(write))
        return true
      })
      if (taken) {
        announce(room)
        if (run.open_plan !== null && run.execution_id) room.bell.ring('control', { execution_id: run.execution_id })
        if (run.open_plan !== null) await untold.said()
        return {}
      }
      const subject = (message.trim().split('\n', 1)[0] ?? '').slice(0, SUBJECT_CHARACTERS)
      const said = { to: [run_id], subject, body: message + untold.text }
      await messages.send(caller, said, { ...options, mode: body.mode ?? undefined })
      await untold.said()
      return {}
    },
  }
}

const wordsOf = ({ message }: FollowUp, has_files: boolean): string =>
  message?.trim() ? message : has_files ? 'Look at these.' : 'Go on.'

/** An ended run may be asked to go on without a word, and files speak for themselves. */
function checkWords(
  { message }: FollowUp,
  { run, has_files }: { run: { state: string; open_plan: number | null }; has_files: boolean },
): void {
  if (message?.trim() || (run.open_plan === null && (has_files || isOver(run.state)))) return
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
