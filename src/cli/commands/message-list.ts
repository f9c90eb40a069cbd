import type { Command } from 'commander'
import { z } from 'zod'
import { API_PREFIX, MessageHeader, messageRoutes } from '../../contract/index.ts'
import { fillPath, queryOf } from '../../sdk/client.ts'
import { actingClient } from '../acting.ts'
import { bodyOf, type Context, type Given } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { headerLines } from '../messages.ts'
import { timeOf } from './run-list.ts'

export function declare(command: Command): void {
  command
    .argument('<run>', 'id of the run')
    .option('--unread', 'only what nobody has read yet')
    .option('--since <time>', 'sent since then: RFC 3339, or a duration such as 10m')
    .option('-L, --limit <n>', 'how many at most, 1 to 100', '50')
}

const Options = z.object({
  unread: z.boolean().optional(),
  since: z.string().optional(),
  limit: z.coerce
    .number('--limit is a number')
    .int('--limit is a whole number')
    .min(1, '--limit is at least 1')
    .max(100, '--limit is at most 100'),
})

export async function run(context: Context, given: Given): Promise<void> {
  const parsed = Options.safeParse(given.options)
  if (!parsed.success) throw new CommandFailure('usage', `${parsed.error.issues[0]?.message ?? 'Wrong option'}.`)
  const { limit, unread, since } = parsed.data
  const run_id = given.args[0] ?? ''
  const query = { limit, since: timeOf('--since', since), ...(unread === true ? { unread: true } : {}) }
  const path = API_PREFIX + fillPath(messageRoutes.list.path, { run_id })
  const body = await bodyOf(
    await actingClient(context).raw('GET', path, {
      query: queryOf(query) ?? new URLSearchParams(),
      signal: context.signal,
    }),
  )
  const headers = z.array(MessageHeader).parse(body)
  await context.out.show(
    body,
    () => headerLines(headers, Date.now(), context.out.width),
    () => z.array(z.unknown()).parse(body),
  )
  if (!context.out.machine && headers.length === 0) context.out.note('No messages.')
}
