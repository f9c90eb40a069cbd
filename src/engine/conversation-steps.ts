/**
 * The steps of a conversation: of each run its executions, in order, and in the one that made it, each child run; in a
 * fork, as they stood when it was made. The conversation's own runs must fit; of child runs, those are told that still
 * fit, and of the others that they are.
 */
import { sql } from 'kysely'
import {
  CONVERSATION_BYTES_MAX,
  CONVERSATION_CHILDREN_MAX,
  CONVERSATION_ENTRIES_MAX,
  type ConversationStep,
  Fault,
} from '../contract/index.ts'
import { isOver } from './births.ts'
import type { Caller } from './caller.ts'
import type { Part } from './conversation-parts.ts'
import { renderExecution, type ShownExecution } from './conversation-view.ts'
import type { Room } from './engine.ts'
import type { transcriptsEngine } from './transcripts.ts'
import { visibleRuns } from './visible.ts'

/** Of one entry no more counts, in bytes: the rest of it is cut. */
const ENTRY_BYTES_COUNTED = 64 * 1024

type Child = {
  run_id: string
  parent_run_id: string
  conversation_id: string
  title: string
  state: string
  created_at: Date
  started_at: Date | null
  ended_at: Date | null
  /** Of a fork: what it has of this run. */
  until: Part['until']
}
type Size = { entries: number; bytes: number }
type Told = { execution: ShownExecution; step: ConversationStep }

export async function readSteps(
  room: Room,
  transcripts: ReturnType<typeof transcriptsEngine>,
  caller: Caller,
  parts: Part[],
): Promise<ConversationStep[]> {
  const db = room.database.kysely
  const run_ids = parts.map(({ run_id }) => run_id)
  const found = [...(await forkedChildren()), ...(await childrenOf())]
  const children = found.slice(0, CONVERSATION_CHILDREN_MAX)
  const sizes = await sizesOf([...run_ids, ...children.map(({ run_id }) => run_id)])
  const titles = await titlesOf(run_ids)
  const left: Size = { entries: CONVERSATION_ENTRIES_MAX, bytes: CONVERSATION_BYTES_MAX }
  for (const run_id of run_ids) if (!take(run_id)) throw tooLarge(run_ids, sizes)
  const steps: ConversationStep[] = []
  for (const part of parts) {
    const told = await tell(part, titles.get(part.run_id) ?? '')
    const others = await addChildren(part.run_id, told)
    steps.push(...told.map(({ step }) => step), ...others)
  }
  if (found.length > children.length)
    steps.at(-1)?.messages.push(systemMessage(room.clock.now(), 'cut', { reason: CHILDREN_CUT }))
  return steps

  function take(run_id: string): boolean {
    const size = sizes.get(run_id) ?? { entries: 0, bytes: 0 }
    if (size.entries > left.entries || size.bytes > left.bytes) return false
    left.entries -= size.entries
    left.bytes -= size.bytes
    return true
  }

  async function tell({ run_id, until }: Part, title: string): Promise<Told[]> {
    const executions = await db
      .selectFrom('executions')
      .select(['execution_id', 'run_id', 'number', 'harness', 'started_at', 'ended_at', 'outcome', 'entries'])
      .where('run_id', '=', run_id)
      .where('started_at', 'is not', null)
      .$if(until !== null, (q) => q.where('number', '<=', until?.execution_number ?? 0))
      .orderBy('number')
      .execute()
    const entries = await transcripts.allOf(run_id, until)
    return executions.map((execution) => {
      const own = entries.filter((entry) => entry.execution_id === execution.execution_id)
      const last = own.at(-1)
      const is_cut = last !== undefined && last.number < execution.entries
      const shown = is_cut ? { ...execution, ended_at: new Date(last.at), outcome: null } : execution
      return { execution, step: renderExecution(shown, own, title) }
    })
  }

  /** Each in the step of the execution that ran when it was made; answers those of a run that runs nothing itself. */
  async function addChildren(parent_run_id: string, told: Told[]): Promise<ConversationStep[]> {
    const others: ConversationStep[] = []
    for (const child of children) {
      if (child.parent_run_id !== parent_run_id) continue
      const made = told.findLast(({ execution }) => (execution.started_at ?? child.created_at) <= child.created_at)
      const beside = made?.step.steps ?? others
      beside.push(await tellChild(child))
    }
    return others
  }

  async function tellChild(child: Child): Promise<ConversationStep> {
    const { run_id, conversation_id, title, state, created_at, started_at, ended_at, until } = child
    const fits = take(run_id)
    const told = fits ? await tell({ run_id, until }, title) : []
    const others = fits ? await addChildren(run_id, told) : []
    const about = { run_id, conversation_id, title, state }
    const reason = `This run is too large to be told here; its conversation is ${conversation_id}.`
    return {
      id: run_id,
      description: title,
      summary: state,
      ...(started_at === null ? {} : { started_at: started_at.toISOString() }),
      ...(ended_at === null ? {} : { completed_at: ended_at.toISOString() }),
      messages: [
        systemMessage(created_at, 'child_run', about),
        ...(fits ? [] : [systemMessage(created_at, 'cut', { reason })]),
      ],
      steps: [...told.map(({ step }) => step), ...others],
    }
  }

  async function childrenOf(): Promise<Child[]> {
    const parents = parts.flatMap(({ run_id, until }) => (until === null ? [run_id] : []))
    if (parents.length === 0) return []
    const { rows } = await sql<Omit<Child, 'until'>>`
      select run_id, parent_run_id, conversation_id, title, state, created_at, started_at, ended_at from runs
      where root_run_id in (select own.root_run_id from runs own where own.run_id = any(${parents}::uuid[]))
        and ancestors && ${parents}::uuid[] and ${visibleRuns(caller)}
      order by depth, created_at, run_id limit ${CONVERSATION_CHILDREN_MAX + 1}`.execute(db)
    return rows.map((row) => ({ ...row, until: null }))
  }

  async function forkedChildren(): Promise<Child[]> {
    const then = new Map(
      parts.flatMap(({ until }) => (until?.children ?? []).map((child) => [child.run_id, { child, at: until?.at }])),
    )
    if (then.size === 0) return []
    const rows = await db
      .selectFrom('runs')
      .select(['run_id', 'parent_run_id', 'conversation_id', 'title', 'created_at', 'started_at', 'ended_at'])
      .where('run_id', 'in', [...then.keys()])
      .where(visibleRuns(caller))
      .orderBy('depth')
      .orderBy('created_at')
      .orderBy('run_id')
      .execute()
    return rows.flatMap(({ parent_run_id, ...row }): Child[] => {
      const { child, at } = then.get(row.run_id) ?? {}
      if (child === undefined || at === undefined || parent_run_id === null) return []
      const had = (time: Date | null) => (time !== null && time <= at ? time : null)
      const ended_at = isOver(child.state) ? had(row.ended_at) : null
      const until = { ...child, at, children: [] }
      return [{ ...row, parent_run_id, state: child.state, started_at: had(row.started_at), ended_at, until }]
    })
  }

  async function titlesOf(run_ids: string[]): Promise<Map<string, string>> {
    const rows = await db.selectFrom('runs').select(['run_id', 'title']).where('run_id', 'in', run_ids).execute()
    return new Map(rows.map(({ run_id, title }) => [run_id, title]))
  }

  async function sizesOf(run_ids: string[]): Promise<Map<string, Size>> {
    const { rows } = await sql<Size & { run_id: string }>`
      select run_id, count(*)::int as entries, sum(least(body_bytes, ${ENTRY_BYTES_COUNTED}))::float8 as bytes
      from entries where run_id = any(${run_ids}::uuid[]) group by run_id`.execute(db)
    return new Map(rows.map(({ run_id, ...size }) => [run_id, size]))
  }
}

const CHILDREN_CUT = `Of its child runs ${CONVERSATION_CHILDREN_MAX} are told; /agent/runs?ancestor_run_id= lists all.`

const systemMessage = (at: Date, name: string, data: object): ConversationStep['messages'][number] => ({
  role: 'system',
  timestamp: at.toISOString(),
  content: [{ type: 'event', name, data }],
})

function tooLarge(run_ids: string[], sizes: Map<string, Size>): Fault {
  const all = run_ids.map((run_id) => sizes.get(run_id) ?? { entries: 0, bytes: 0 })
  const entries = all.reduce((sum, size) => sum + size.entries, 0)
  return new Fault(
    'operation_not_supported',
    `This conversation has ${entries} entries, or more than ${CONVERSATION_BYTES_MAX} bytes: too large to be normalized. Read the transcript instead: /agent/runs/${run_ids[0]}/transcript.`,
  )
}
