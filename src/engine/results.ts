/** What the tasks that a task depends on have come to, for the one that goes on from there. */
import { sql } from 'kysely'
import { AgentConfig, EntryBody, harnessOf, RunState, TaskResult } from '../contract/index.ts'
import type { Room } from './engine.ts'

/** Of one result's text, and of all together. */
const TEXT_BYTES_MAX = 16 * 1024
const ALL_BYTES_MAX = 128 * 1024
/** Of one task's. */
const ARTIFACTS_MAX = 50
/** Of these the text is put together, the newest first. */
const ENTRIES_MAX = 100

type Said = { kind: string; text: string | null; blob_id: string | null }
type Row = {
  name: string
  run_id: string
  state: string
  config: unknown
  harness: string | null
  summary: string | null
  status_message: string | null
  said: Said[]
  artifacts: unknown
  usage: unknown
  run_seconds: number
}

/** Nothing for a run that is no task, or depends on none. */
export async function resultsFor(room: Room, run_id: string): Promise<{ results?: TaskResult[] }> {
  // What an agent says after its last tool call is its answer; a command's output begins with its own start.
  const { rows } = await sql<Row>`
    select t.name, r.run_id, r.state, r.config, x.harness, x.note->>'summary' as summary, r.status_message,
      array(select jsonb_build_object('kind', e.kind, 'text', e.body->>'text', 'blob_id', e.blob_id)
        from entries e where e.execution_id = x.execution_id and e.kind in ('text', 'output') and e.number > coalesce((
          select max(b.number) from entries b where b.execution_id = x.execution_id
            and (b.kind in ('prompt', 'tool_call', 'tool_result') or b.body->>'name' = 'harness_started')), 0)
        order by e.number desc limit ${ENTRIES_MAX}) as said,
      (select coalesce(jsonb_agg(to_jsonb(a)), '[]') from (
        select artifact_uid, artifact_type, created_at, data from artifacts
        where artifacts.run_id = r.run_id order by created_at limit ${ARTIFACTS_MAX}) as a) as artifacts,
      used.usage, used.run_seconds
    from batch_tasks own
    join batch_tasks t on t.run_id = any(own.depends_on)
    join runs r on r.run_id = t.run_id
    left join executions x on x.execution_id = r.execution_id
    cross join lateral (
      select coalesce(sum(extract(epoch from ended_at - started_at)), 0)::float8 as run_seconds,
        jsonb_strip_nulls(jsonb_build_object(
          'input_tokens', coalesce(sum((usage->>'input_tokens')::float8), 0),
          'output_tokens', coalesce(sum((usage->>'output_tokens')::float8), 0),
          'cache_read_tokens', coalesce(sum((usage->>'cache_read_tokens')::float8), 0),
          'cache_write_tokens', coalesce(sum((usage->>'cache_write_tokens')::float8), 0),
          'cost_usd', sum((usage->>'cost_usd')::float8), 'cpu_seconds', sum((usage->>'cpu_seconds')::float8))) as usage
      from executions where executions.run_id = r.run_id
    ) as used
    where own.run_id = ${run_id} order by t.number`.execute(room.database.kysely)
  if (rows.length === 0) return {}
  const most = Math.min(TEXT_BYTES_MAX, Math.floor(ALL_BYTES_MAX / rows.length))
  return { results: await Promise.all(rows.map((row) => render(room, row, most))) }
}

async function render(room: Room, row: Row, bytes_max: number): Promise<TaskResult> {
  const config = AgentConfig.parse(row.config)
  const model_id = config.model_id ?? config.harness?.model_id ?? undefined
  const text = row.summary ?? ((await lastWords(room, row.said, bytes_max)) || (row.status_message ?? ''))
  return TaskResult.parse({
    name: row.name,
    run_id: row.run_id,
    state: RunState.parse(row.state),
    harness: row.harness ?? harnessOf(config),
    ...(model_id === undefined ? {} : { model_id }),
    text: endOf(text.trim(), bytes_max),
    artifacts: row.artifacts,
    usage: row.usage,
    run_seconds: row.run_seconds,
  })
}

async function lastWords(room: Room, said: Said[], bytes_max: number): Promise<string> {
  let text = ''
  for (const one of said) {
    const piece = await wholeOf(room, one)
    text = text === '' ? piece : piece + (one.kind === 'text' ? '\n\n' : '') + text
    if (Buffer.byteLength(text) >= bytes_max) break
  }
  return text
}

/** A long entry's row has its head alone. */
async function wholeOf(room: Room, { text, blob_id }: Said): Promise<string> {
  const bytes = blob_id === null ? null : await room.blobs.read(blob_id)
  if (bytes === null) return text ?? ''
  const body = EntryBody.parse(JSON.parse(Buffer.from(bytes).toString()))
  return 'text' in body ? body.text : ''
}

/** Cut in front, between two characters. */
function endOf(text: string, bytes_max: number): string {
  const bytes = Buffer.from(text)
  if (bytes.length <= bytes_max) return text
  const mark = '…'
  return (
    mark +
    bytes
      .subarray(bytes.length - bytes_max + Buffer.byteLength(mark))
      .toString()
      .replace(/^\ufffd+/, '')
  )
}
