/** Batches in the query cache: tasks that changed are read again as one piece of the list, however long the list is. */
import type { QueryClient } from '@tanstack/react-query'
import type { BatchTask } from '../../contract/index.ts'
import type { Client } from '../../sdk/client.ts'
import { keys } from './queries.ts'

/** Changes are gathered for this long before a batch is read again, in milliseconds; the list of batches waits longer. */
const BATCH_MS = 400
const LIST_MS = 2000
/** Tasks read at once to bring a list up to date. */
const PIECE = 500

export function renewBatches(client: Client, queries: QueryClient, run_ids: string[]): void {
  const changed = new Set(run_ids)
  for (const query of queries.getQueryCache().findAll({ queryKey: ['batches'], type: 'active' })) {
    const [, what, batch_id] = query.queryKey
    if (what === 'list') later(queries, query.queryKey, LIST_MS)
    if (what !== 'tasks' || typeof batch_id !== 'string') continue
    const tasks = queries.getQueryData<BatchTask[]>(query.queryKey) ?? []
    const numbers = tasks.filter((task) => changed.has(task.run_id)).map((task) => task.number)
    if (numbers.length === 0 && !changed.has(batch_id)) continue
    later(queries, keys.batch(batch_id), BATCH_MS)
    void renewTasks(client, queries, batch_id, numbers)
  }
}

/** From the first to the last of `numbers`: a batch works along its list, so that little lies between them. */
export async function renewTasks(
  client: Client,
  queries: QueryClient,
  batch_id: string,
  numbers: number[],
): Promise<void> {
  const last = Math.max(...numbers)
  try {
    for (let after = Math.min(...numbers) - 1; after < last; ) {
      const query = { after, limit: Math.min(PIECE, last - after) }
      const { tasks } = await client.batches.tasks({ params: { batch_id }, query })
      if (tasks.length === 0) return
      queries.setQueryData<BatchTask[]>(keys.tasks(batch_id), (held) => held && withTasks(held, tasks))
      after = tasks.at(-1)?.number ?? last
    }
  } catch {
    // The line, or a server in trouble: the whole is read again when the stream stands.
    void queries.invalidateQueries({ queryKey: keys.tasks(batch_id), refetchType: 'none' })
  }
}

export function withTasks(held: BatchTask[], fresh: BatchTask[]): BatchTask[] {
  const byNumber = new Map(fresh.map((task) => [task.number, task]))
  return held.map((task) => byNumber.get(task.number) ?? task)
}

/** At once when the last reading was long enough ago. What is asked for meanwhile is one reading. */
function later(queries: QueryClient, queryKey: readonly unknown[], pause_ms: number): void {
  const query = queries.getQueryCache().find({ queryKey, exact: true })
  if (!query) return
  const { isInvalidated, fetchStatus, error } = query.state
  if (isInvalidated && fetchStatus === 'idle' && error === null) return
  query.invalidate()
  const rest = query.state.dataUpdatedAt + pause_ms - Date.now()
  setTimeout(() => void queries.refetchQueries({ queryKey, exact: true, type: 'active' }), Math.max(0, rest))
}
