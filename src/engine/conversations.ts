/**
 * Conversations: read normalized, forked, renamed, and found by their session. Who sees a run sees its part of a
 * conversation; what a caller may not see is left out of what it reads and forks.
 */
import { randomUUID } from 'node:crypto'
import { sql } from 'kysely'
import {
  CONVERSATION_BYTES_MAX,
  type CONVERSATION_FORMATS,
  type Conversation,
  type ConversationStep,
  Fault,
  type ResolvedPrompt,
  type ResolvePrompt,
} from '../contract/index.ts'
import type { Caller, ExecutionCaller } from './caller.ts'
import type { conversationFilesEngine } from './conversation-files.ts'
import { childrenNow, type Part, partsOf, positionsOf, titleOf } from './conversation-parts.ts'
import { readSteps } from './conversation-steps.ts'
import { renderExecution } from './conversation-view.ts'
import type { Room } from './engine.ts'
import { readForeign } from './foreign-transcripts.ts'
import { resolvePrompt } from './resolve-prompt.ts'
import { personOf, runNotFound } from './runs.ts'
import type { transcriptsEngine } from './transcripts.ts'
import { visibleRuns } from './visible.ts'

type Reach = {
  transcripts: ReturnType<typeof transcriptsEngine>
  files: ReturnType<typeof conversationFilesEngine>
}

export function conversationsEngine(room: Room, { transcripts, files }: Reach) {
  const { clock } = room
  const db = room.database.kysely

  async function partsFor(caller: Caller, conversation_id: string) {
    const { parts } = await partsOf(db, conversation_id, visibleRuns(caller))
    if (parts.length === 0) throw conversationNotFound(conversation_id)
    return parts
  }

  async function read(caller: Caller, conversation_id: string): Promise<Conversation> {
    const parts = await partsFor(caller, conversation_id)
    const steps = await readSteps(room, transcripts, caller, parts)
    const is_told = steps.some(({ messages }) => messages.length > 0)
    if (is_told || !(await files.has(caller, conversation_id))) return { conversation_id, steps }
    const foreign = await readForeignSteps(caller, conversation_id, parts)
    // Its child runs are known here all the same.
    foreign.at(-1)?.steps.push(...steps.flatMap((step) => step.steps))
    return { conversation_id, steps: foreign }
  }

  /** Nothing is known but what the harness has sent. */
  async function readForeignSteps(caller: Caller, conversation_id: string, parts: Part[]): Promise<ConversationStep[]> {
    const run_id = parts.at(-1)?.run_id ?? ''
    const bytes = await files.read(caller, conversation_id, CONVERSATION_BYTES_MAX)
    const foreign = bytes === null ? null : readForeign(Buffer.from(bytes).toString('utf8'))
    if (foreign === null) throw notNormalized(run_id)
    const last = await db
      .selectFrom('executions')
      .select(['number', 'started_at', 'ended_at', 'outcome'])
      .where('run_id', '=', run_id)
      .orderBy('number', 'desc')
      .limit(1)
      .executeTakeFirstOrThrow()
    const about = { run_id, execution_id: foreign.id, execution_number: last.number, position: '' }
    const entries = foreign.entries.map(({ at, body }, index) => ({ ...about, number: index + 1, at, body }))
    const shown = { ...last, ...about, harness: foreign.harness, number: 1 }
    const title =
      (await titleOf(
        db,
        conversation_id,
        parts.map((part) => part.run_id),
      )) ?? ''
    return [renderExecution(shown, entries, title, `/agent/runs/${run_id}/transcript`)]
  }

  async function runOf(caller: Caller, run_id: string): Promise<{ conversation_id: string; has_entries: boolean }> {
    const run = await db
      .selectFrom('runs')
      .select('conversation_id')
      .select(sql<boolean>`exists (select from entries where entries.run_id = runs.run_id)`.as('has_entries'))
      .where('run_id', '=', run_id)
      .where(visibleRuns(caller))
      .executeTakeFirst()
    if (!run) throw runNotFound(run_id)
    return run
  }

  async function ofRun(caller: Caller, run_id: string): Promise<Conversation> {
    return read(caller, (await runOf(caller, run_id)).conversation_id)
  }

  async function fork(caller: Caller, conversation_id: string, title: string | undefined) {
    personOf(caller)
    const parts = await partsFor(caller, conversation_id)
    const run_ids = parts.map(({ run_id }) => run_id)
    const standing = parts.flatMap(({ run_id, until }) => (until === null ? [run_id] : []))
    const now = await positionsOf(db, standing)
    const below = await childrenNow(db, standing)
    const fork = {
      conversation_id: randomUUID(),
      team_id: caller.team_id,
      title: title ?? (await titleOf(db, conversation_id, run_ids)),
      forked_from: conversation_id,
      created_at: clock.now(),
    }
    const rows = parts.map(({ run_id, until }, at) => {
      const { execution_number, number: entries } = until ?? now.get(run_id) ?? { execution_number: 0, number: 0 }
      const children = JSON.stringify(until?.children ?? below.get(run_id) ?? [])
      const part = { run_id, execution_number, entries, forked_at: until?.at ?? fork.created_at, children }
      return { conversation_id: fork.conversation_id, number: at + 1, ...part }
    })
    await db.transaction().execute(async (write) => {
      await write.insertInto('conversations').values(fork).execute()
      await write.insertInto('conversation_parts').values(rows).execute()
    })
    return { forked_conversation_id: fork.conversation_id }
  }

  /** Its runs are called so, too, as far as the caller sees them. */
  async function rename(caller: Caller, conversation_id: string, title: string): Promise<{ title: string }> {
    personOf(caller)
    await partsFor(caller, conversation_id)
    const now = clock.now()
    await db.transaction().execute(async (write) => {
      await write
        .insertInto('conversations')
        .values({ conversation_id, team_id: caller.team_id, title, created_at: now })
        .onConflict((one) => one.column('conversation_id').doUpdateSet({ title }))
        .execute()
      await write
        .updateTable('runs')
        .set({ title, updated_at: now })
        .where('conversation_id', '=', conversation_id)
        .where(visibleRuns(caller))
        .execute()
    })
    return { title }
  }

  return {
    read,
    ofRun,
    fork,
    rename,

    /** The run's own conversation, and what the harness writes it in besides. */
    async bind(
      { run_id, team_id }: ExecutionCaller,
      format: (typeof CONVERSATION_FORMATS)[number],
    ): Promise<{ conversation_id: string }> {
      const run = await db.selectFrom('runs').select('conversation_id').where('run_id', '=', run_id).executeTakeFirst()
      if (!run) throw runNotFound(run_id)
      const { conversation_id } = run
      await db
        .insertInto('conversations')
        .values({ conversation_id, team_id, format, created_at: clock.now() })
        .onConflict((one) => one.column('conversation_id').doUpdateSet({ format }))
        .execute()
      return { conversation_id }
    },

    /** The conversation of a run of which nothing is known but what its harness has sent; null: it is another. */
    async foreignTranscript(caller: Caller, run_id: string): Promise<string | null> {
      const run = await runOf(caller, run_id)
      return run.has_entries ? null : (await files.has(caller, run.conversation_id)) ? run.conversation_id : null
    },

    async resolvePrompt(caller: ExecutionCaller, asked: ResolvePrompt): Promise<ResolvedPrompt> {
      return resolvePrompt(room, caller, asked, await files.hasOwn(caller))
    },

    /** For anyone who knows the session: the conversation it belongs to; nothing at all of an unknown one. */
    async ofSession(session_id: string): Promise<{ conversation_id?: string }> {
      if (!UUID.test(session_id)) return {}
      const found = await db
        .selectFrom('executions')
        .innerJoin('runs', 'runs.run_id', 'executions.run_id')
        .innerJoin('teams', 'teams.team_id', 'runs.team_id')
        .select('runs.conversation_id')
        .where('teams.deleted_at', 'is', null)
        .where('executions.execution_id', '=', session_id)
        .where('executions.started_at', 'is not', null)
        .executeTakeFirst()
      return found ?? {}
    },

    /** The other way round: the session of the execution that was last. */
    async sessionOf(conversation_id: string): Promise<{ session_id?: string }> {
      if (!UUID.test(conversation_id)) return {}
      const found = await db
        .selectFrom('executions')
        .innerJoin('runs', 'runs.run_id', 'executions.run_id')
        .innerJoin('teams', 'teams.team_id', 'runs.team_id')
        .select('executions.execution_id as session_id')
        .where('teams.deleted_at', 'is', null)
        .where('runs.conversation_id', '=', conversation_id)
        .where('executions.started_at', 'is not', null)
        .orderBy('executions.offered_at', 'desc')
        .limit(1)
        .executeTakeFirst()
      return found ?? {}
    },
  }
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/** The harness's own transcript is larger than what is told here, or of a format that is not known. */
const notNormalized = (run_id: string): Fault =>
  new Fault(
    'operation_not_supported',
    `This conversation is kept by its harness, in a format of its own that is not normalized, or more of it than can be. Its transcript is at /agent/runs/${run_id}/transcript.`,
  )

const conversationNotFound = (conversation_id: string): Fault =>
  new Fault('resource_not_found', `There is no conversation ${conversation_id}.`)
