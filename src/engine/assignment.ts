/**
 * What a runner is told of its execution when it begins.
 *
 * An execution that is not the first goes on with what its agent remembers: the session of its harness, where that is
 * kept. Who does not remember is given the transcript; who does is given what came after the session was kept. Either
 * is told how the last execution ended, and that its task is not a new one: the half of it may be done.
 *
 * So does a run that goes on with a conversation: what came before it there is as if its own, but its task is a new
 * one.
 */
import type { Selectable } from 'kysely'
import { sql } from 'kysely'
import {
  AgentConfig,
  type Assignment,
  EntryBody,
  Execution,
  FrozenEnvironment,
  harnessOf,
  type Limits,
  RunMode,
} from '../contract/index.ts'
import type { Runs } from '../db/tables.ts'
import type { Brought } from './brought.ts'
import { configureExecution } from './configuration.ts'
import { type Part, type Position, partsBefore } from './conversation-parts.ts'
import type { Room } from './engine.ts'
import { lostLetters } from './lost-letters.ts'
import { modeWords } from './mode-words.ts'
import { renderMemories } from './remembering.ts'
import { resultsFor } from './results.ts'
import { renderSkills } from './run-givens.ts'
import { renderSecrets } from './secret-opening.ts'
import { type FoundSession, keptSession } from './sessions.ts'

/** Characters of an earlier transcript that are given along where the harness does not remember. */
const CONTEXT_CHARACTERS = 40_000
const CONTEXT_ENTRIES = 400

type Run = Selectable<Runs>
type Before = Pick<Assignment, 'resume' | 'context' | 'missed'> & { again: string | null }

/** `run.executions` is the number of the current execution; `entries_held` of its transcript the server has. */
export async function renderAssignment(
  room: Room,
  run: Run,
  execution_id: string,
  entries_held: number,
): Promise<Assignment> {
  const asked = AgentConfig.parse(run.config)
  const environment = asked.environment_id ? await frozenFor(room, execution_id) : null
  const config = configureExecution(asked, environment)
  const cause = await causeOf(room, run, execution_id)
  const earlier = await partsBefore(room.database.kysely, run)
  const is_first = run.executions === 1 && entries_held === 0
  const memories = harnessOf(config) === 'command' ? null : await renderMemories(room.database.kysely, run)
  const brought = await room.brings({ run_id: run.run_id, execution_id })
  const { again, ...before } =
    is_first && earlier.length === 0
      ? NOTHING_BEFORE
      : await whatWasBefore(room, { run, earlier, harness: harnessOf(config), entries_held })
  return {
    run_id: run.run_id,
    execution_id,
    number: run.executions,
    team_id: run.team_id,
    title: run.title,
    prompt: cause === 'message' ? '' : (again ?? askedOf(run)),
    config,
    parent_run_id: run.parent_run_id,
    conversation_id: run.conversation_id,
    limits: limitsFor(room, config),
    entries_held,
    ...renderFiles(brought, run, asked),
    ...renderSkills(brought.runtime_skills),
    cause: Execution.shape.cause.parse(cause),
    placement: run.placement === 'parent' ? 'parent' : 'worker',
    ...(memories === null ? {} : { memories }),
    guidance: cause === 'message' ? null : modeWords(RunMode.parse(run.mode)),
    ...(run.parent_run_id !== null && run.lane_run_id === run.parent_run_id ? await resultsFor(room, run.run_id) : {}),
    ...before,
    ...(cause === 'local' ? {} : await renderSecrets(room, config, { execution_id, any: brought.secrets })),
    ...(cause === 'local' ? {} : renderCloud(config, environment)),
  }
}

/** What its runner is to bring into the sandbox, and whether it is to leave a snapshot. */
const renderFiles = (
  { attachments, restores }: Brought,
  run: Run,
  config: AgentConfig,
): Pick<Assignment, 'attachments' | 'restores' | 'snapshot_disabled'> => ({
  ...(attachments > 0 ? { attachments } : {}),
  ...(restores ? { restores } : {}),
  ...(run.snapshot_disabled || config.snapshot_disabled ? { snapshot_disabled: true } : {}),
})

/** A role for models is the run's only one: a process has one role of AWS. */
function renderCloud(config: AgentConfig, environment: FrozenEnvironment | null): Pick<Assignment, 'cloud'> {
  const { aws: named } = config.inference_providers ?? {}
  const providers = environment?.providers ?? {}
  const for_models = harnessOf(config) === 'claude' && Boolean(named?.role_arn) && !named?.disabled
  const role_arn = for_models ? named?.role_arn : providers.aws?.role_arn
  const aws = role_arn && { role_arn, region: (for_models && named?.region) || null, for_models }
  const cloud = { ...(aws ? { aws } : {}), ...(providers.gcp ? { gcp: providers.gcp } : {}) }
  return Object.keys(cloud).length === 0 ? {} : { cloud }
}

const NOTHING_BEFORE: Before = { resume: null, context: null, missed: null, again: null }

async function frozenFor(room: Room, execution_id: string): Promise<FrozenEnvironment | null> {
  const { environment } = await room.database.kysely
    .selectFrom('executions')
    .select('environment')
    .where('execution_id', '=', execution_id)
    .executeTakeFirstOrThrow()
  return environment === null ? null : FrozenEnvironment.parse(environment)
}

/** A first execution is told by its run; it is part of every run's start. */
async function causeOf(room: Room, run: Run, execution_id: string): Promise<string> {
  if (run.executions === 1) return run.source === 'LOCAL' ? 'local' : 'start'
  const { cause } = await room.database.kysely
    .selectFrom('executions')
    .select('cause')
    .where('execution_id', '=', execution_id)
    .executeTakeFirstOrThrow()
  return cause
}

type Past = { run: Run; earlier: Part[]; harness: string; entries_held: number }

async function whatWasBefore(room: Room, past: Past): Promise<Before> {
  const { run, earlier, harness, entries_held } = past
  // A command remembers nothing and is told nothing.
  if (harness === 'command') return NOTHING_BEFORE
  const all: Part[] = [...earlier, { run_id: run.run_id, until: null }]
  const kept = await keptSession(room.database.kysely, all, harness)
  const session_id = kept?.session_id ?? (await toldSession(room, past))
  const resume = session_id === null ? null : { harness, session_id, ...(kept === null ? {} : { kept: true }) }
  const told = await entriesOf(room, run.run_id)
  const letters = await lostLetters(room, run)
  const before = await entriesBefore(room, earlier, null)
  const since = kept === null ? [] : linesOf(await entriesBefore(room, all, kept))
  const missed = since.length === 0 ? [] : [SINCE, ...since]
  // What was never given to an agent is as new.
  if (!told.some(isGiven) && letters.length === 0)
    return {
      resume,
      context: pieces(before.length === 0 ? [] : [EARLIER, ...linesOf(before)]) || null,
      missed: pieces(missed) || null,
      again: null,
    }
  const end = entries_held > 0 ? RESTARTED : await endOfLast(room, run)
  return {
    resume,
    context: pieces([...linesOf([...before, ...told]), end.text, ...letters]),
    missed: pieces([...missed, end.text, ...letters]) || null,
    again: end.succeeded
      ? `You are asked again:\n\n${askedOf(run)}`
      : `Your task, which you were given before:\n\n${askedOf(run)}\n\nGo on with it from where it stands.`,
  }
}

const SINCE = 'Since what you remember of this, the following happened:'
const EARLIER = 'You go on with this conversation:'

/** A run may be made to go on with a conversation as it stands. */
const askedOf = ({ prompt, run_id, conversation_id }: Run): string =>
  prompt === '' && conversation_id !== run_id ? 'Go on from where this stands.' : prompt

/**
 * A session that is not kept here may lie where its harness has always kept it, with its owner's own login. A fork must
 * not go on with that one: the one that it was made from would hear of it.
 */
async function toldSession(room: Room, { run, earlier, harness, entries_held }: Past): Promise<string | null> {
  const before = earlier.flatMap(({ run_id, until }) => (until === null ? [run_id] : []))
  const last = await room.database.kysely
    .selectFrom('executions')
    .select('session_id')
    .where('run_id', 'in', [run.run_id, ...before])
    .where((where) =>
      where.or([where('run_id', '!=', run.run_id), where('number', entries_held > 0 ? '<=' : '<', run.executions)]),
    )
    .where('harness', '=', harness)
    .where('session_id', 'is not', null)
    .orderBy('offered_at', 'desc')
    .limit(1)
    .executeTakeFirst()
  return last?.session_id ?? null
}

type End = { succeeded: boolean; text: string }

const UNFINISHED = 'Some of what you had begun may have taken effect: look at what is there before you go on.'
const RESTARTED: End = {
  succeeded: false,
  text: `Then you were interrupted: the runner was started again. ${UNFINISHED}`,
}
const ENDS: Record<string, string> = {
  CANCELLED: 'Then you were stopped: your run was cancelled.',
  FAILED: 'Then your run failed.',
  ERROR: 'Then you were interrupted.',
}

/** Of the executions that began. */
async function endOfLast(room: Room, run: Run): Promise<End> {
  const last = await room.database.kysely
    .selectFrom('executions')
    .select(['outcome', sql<string | null>`failure->>'message'`.as('message')])
    .where('run_id', '=', run.run_id)
    .where('number', '<', run.executions)
    .where('started_at', 'is not', null)
    .orderBy('number', 'desc')
    .limit(1)
    .executeTakeFirst()
  const words = ENDS[last?.outcome ?? '']
  if (words === undefined) return { succeeded: true, text: '' }
  return { succeeded: false, text: [words, last?.message, UNFINISHED].filter(Boolean).join(' ') }
}

/** Of these runs what came after the session was kept, of all of them where there is none; the newest, oldest first. */
async function entriesBefore(room: Room, parts: Part[], kept: FoundSession | null): Promise<EntryBody[]> {
  const bodies: EntryBody[] = []
  for (const { run_id, until } of parts.toReversed()) {
    const after = kept?.run_id === run_id ? { execution_number: kept.execution_number, number: kept.entries } : null
    bodies.unshift(...(await entriesOf(room, run_id, { after, until })))
    if (after !== null || bodies.length >= CONTEXT_ENTRIES) break
  }
  return bodies
}

type Between = { after: Position | null; until: Position | null }

/** Of what was asked, said and done the newest, oldest first. Heads of long entries suffice here. */
async function entriesOf(room: Room, run_id: string, between?: Between): Promise<EntryBody[]> {
  const { after = null, until = null } = between ?? {}
  const rows = await room.database.kysely
    .selectFrom('entries')
    .select('body')
    .where('run_id', '=', run_id)
    .where(sql<boolean>`(kind in ('prompt', 'text', 'tool_call')
      or (kind = 'system' and body->>'name' = 'harness_started'))`)
    .$if(after !== null, (q) =>
      q.where(sql<boolean>`(execution_number, number) > (${after?.execution_number ?? 0}, ${after?.number ?? 0})`),
    )
    .$if(until !== null, (q) =>
      q.where(sql<boolean>`(execution_number, number) <= (${until?.execution_number ?? 0}, ${until?.number ?? 0})`),
    )
    .orderBy('execution_number', 'desc')
    .orderBy('number', 'desc')
    .limit(CONTEXT_ENTRIES)
    .execute()
  return rows.reverse().flatMap((row) => {
    const body = EntryBody.safeParse(row.body)
    return body.success ? [body.data] : []
  })
}

/** A prompt is written down before there is an agent to give it to. */
const isGiven = (body: EntryBody): boolean => body.kind !== 'prompt'

function linesOf(bodies: EntryBody[]): string[] {
  const lines: string[] = []
  let characters = 0
  for (const body of bodies.toReversed()) {
    const line = contextLine(body)
    if (line === null) continue
    characters += line.length
    if (characters > CONTEXT_CHARACTERS && lines.length > 0) break
    lines.unshift(line)
  }
  return lines
}

const pieces = (texts: string[]): string => texts.filter((text) => text !== '').join('\n\n')

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
  const { setup_command_ms, clone_ms, checkpoint_ms } = room.limits
  const kept = { lease_ms, heartbeat_ms, cancel_grace_ms, transcript_bytes_max, tool_output_bytes_max }
  const execution =
    config.timeout_minutes === undefined ? {} : { execution_ms: Math.round(config.timeout_minutes * 60_000) }
  return { ...kept, setup_command_ms, clone_ms, checkpoint_ms, ...execution }
}
