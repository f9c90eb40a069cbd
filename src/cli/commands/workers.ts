import type { Command } from 'commander'
import { z } from 'zod'
import { API_PREFIX, Worker, workerRoutes } from '../../contract/index.ts'
import { bodyOf, type Context, clientOf } from '../context.ts'
import { paint } from '../output.ts'
import { ago, alignColumns, oneLine } from '../text.ts'

export function declare(_command: Command): void {}

export async function run(context: Context): Promise<void> {
  const body = await bodyOf(
    await clientOf(context).raw('GET', API_PREFIX + workerRoutes.list.path, { signal: context.signal }),
  )
  const { workers } = z.object({ workers: z.array(Worker) }).parse(body)
  const now = Date.now()
  await context.out.show(
    body,
    () => {
      if (workers.length === 0) return []
      const rows = workers.map((w) => [
        oneLine(w.worker_host),
        `${w.running}${w.capacity === undefined ? '' : `/${w.capacity}`}`,
        ago(w.last_seen_at, now),
        w.backend ?? '',
        (w.harnesses ?? []).join(' '),
      ])
      return alignColumns(
        [['WORKER', 'RUNNING', 'SEEN', 'BACKEND', 'HARNESSES'].map(paint.dim), ...rows],
        context.out.width,
      )
    },
    () => workers,
  )
  if (workers.length === 0 && !context.out.machine)
    context.out.note('No worker is connected. Start one with: baton worker')
}
