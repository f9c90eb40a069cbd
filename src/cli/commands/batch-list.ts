import type { Command } from 'commander'
import { z } from 'zod'
import { API_PREFIX, batchRoutes } from '../../contract/index.ts'
import { queryOf } from '../../sdk/client.ts'
import { batchTable } from '../batches.ts'
import { bodyOf, type Context, clientOf, type Given } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { paint } from '../output.ts'

export function declare(command: Command): void {
  command
    .option('-L, --limit <n>', 'how many at most; 20 where absent')
    .option('--cursor <cursor>', 'go on where an earlier list stopped')
}

const LIMIT = '--limit is a whole number from 1 to 200.'
const Options = z.object({
  limit: z.coerce.number(LIMIT).int(LIMIT).min(1, LIMIT).max(200, LIMIT).default(20),
  cursor: z.string().optional(),
})

export async function run(context: Context, given: Given): Promise<void> {
  const { out, signal } = context
  const options = Options.safeParse(given.options)
  if (!options.success) throw new CommandFailure('usage', options.error.issues[0]?.message ?? LIMIT)
  const query = queryOf(options.data) ?? new URLSearchParams()
  const body = await bodyOf(await clientOf(context).raw('GET', API_PREFIX + batchRoutes.list.path, { query, signal }))
  const { batches, page_info } = batchRoutes.list.answer.parse(body)
  await out.show(
    body,
    () => (batches.length === 0 ? [] : batchTable(batches, Date.now(), out.width)),
    () => batches,
  )
  if (out.machine) return
  if (batches.length === 0) out.note('No batches. Start one with: baton batch run tasks.yaml')
  if (page_info.has_next_page && page_info.next_cursor)
    out.note(paint.dim(`There are more: add --cursor ${page_info.next_cursor}`))
}
