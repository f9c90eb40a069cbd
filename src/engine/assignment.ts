/** What a runner is told of its execution when it begins. */
import type { Selectable } from 'kysely'
import { sql } from 'kysely'
import {
  AgentConfig,
  type Assignment,
  EntryBody,
  Execution,
  harnessOf,
  type Limits,
  RunMode,
} from '../contract/index.ts'
import type { Runs } from '../db/tables.ts'
import type { Room } from './engine.ts'
import { modeWords } from './mode-words.ts'

/** Characters of an earlier transcript that are given along where the harness cannot resume its own session. */
const CONTEXT_CHARACTERS = 40_000
const CONTEXT_ENTRIES = 400

/** `run.executions` is the number of the current execution; `entries_held` of its transcript the server has. */
export async function renderAssignment(
  room: Room,
  run: Selectable<Runs>,
  execution_id: string,
  entries_held: number,
): Promise<Assignment> {
  const config = AgentConfig.parse(run.config)
  const cause = await causeOf(room, run, execution_id)
  const woken = cause === 'message'
  return {
    run_id: run.run_id,
    execution_id,
    number: run.executions,
    team_id: run.team_id,
    title: run.title,
    prompt: woken ? '' : run.prompt,
    config,
    parent_run_id: run.parent_run_id,
    conversation_id: run.conversation_id,
    limits: limitsFor(room, config),
    entries_held,
    resume: run.executions === 1 ? null : await earlierSession(room, run, harnessOf(config)),
    cause: Execution.shape.cause.parse(cause),
    placement: run.placement === 'parent' ? 'parent' : 'worker',
    context: woken ? await earlierTranscript(room, run) : null,
    instructions: woken ? null : modeWords(RunMode.parse(run.mode)),
  }
}

/** A first execution is told by its run; it is part of every run's start. */
async function causeOf(room: Room, run: Selectable<Runs>, execution_id: string): Promise<string> {
  if (run.executions === 1) return run.source === 'LOCAL' ? 'local' : 'start'
  const { cause } = await room.database.kysely
    .selectFrom('executions')
    .select('cause')
    .where('execution_id', '=', execution_id)
    .executeTakeFirstOrThrow()
  return cause
}

async function earlierSession(room: Room, run: Selectable<Runs>, harness: string): Promise<Assignment['resume']> {
  const earlier = await room.database.kysely
    .selectFrom('executions')
    .select('session_id')
    .where('run_id', '=', run.run_id)
    .where('number', '<', run.executions)
    .where('harness', '=', harness)
    .where('session_id', 'is not', null)
    .orderBy('number', 'desc')
    .limit(1)
    .executeTakeFirst()
  return earlier?.session_id ? { harness, session_id: earlier.session_id } : null
}

/** The end of what was asked, said and done, newest kept. Heads of long entries suffice here. */
async function earlierTranscript(room: Room, run: Selectable<Runs>): Promise<string | null> {
  const rows = await room.database.kysely
    .selectFrom('entries')
    .select('body')
    .where('run_id', '=', run.run_id)
    .where('execution_number', '<', run.executions)
    .where(sql<boolean>`kind in ('prompt', 'text', 'tool_call')`)
    .orderBy('execution_number', 'desc')
    .orderBy('number', 'desc')
    .limit(CONTEXT_ENTRIES)
    .execute()
  const lines: string[] = []
  let characters = 0
  for (const row of rows) {
    const body = EntryBody.safeParse(row.body)
    const line = body.success ? contextLine(body.data) : null
    if (line === null) continue
    characters += line.length
    if (characters > CONTEXT_CHARACTERS && lines.length > 0) break
    lines.unshift(line)
  }
  return lines.length === 0 ? null : lines.join('\n\n')
}

function contextLine(body: EntryBody): string | null {
  switch (body.kind) {
    case 'prompt':
      return `You were asked:\n${body.text}`
    case 'text':
      return `You said:\n${body.text}`
    case 'tool_call':
      return `You used ${body.name}: ${body.title}`
    case 'thought':
    case 'tool_result':
    case 'plan':
    case 'output':
    case 'system':
    case 'gap':
    case 'unknown':
      return null
  }
}

function limitsFor(room: Room, config: AgentConfig): Limits {
  const { lease_ms, heartbeat_ms, cancel_grace_ms, transcript_bytes_max, tool_output_bytes_max } = room.limits
  const { setup_command_ms, clone_ms } = room.limits
  const kept = { lease_ms, heartbeat_ms, cancel_grace_ms, transcript_bytes_max, tool_output_bytes_max }
  const execution =
    config.timeout_minutes === undefined ? {} : { execution_ms: Math.round(config.timeout_minutes * 60_000) }
  return { ...kept, setup_command_ms, clone_ms, ...execution }
}
