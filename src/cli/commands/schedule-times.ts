import { z } from 'zod'
import { API_PREFIX, NEXT_TIMES_MAX, scheduleRoutes } from '../../contract/index.ts'
import { fillPath, queryOf } from '../../sdk/client.ts'
import type { CommandModule } from '../commands.ts'
import { bodyOf, clientOf, webAddress } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { declareIdempotency, idempotencyOf } from '../idempotency.ts'
import { paint } from '../output.ts'
import { ahead, findSchedule, onClock } from '../schedules.ts'
import { paintState } from '../states.ts'
import { alignColumns, oneLine } from '../text.ts'
import { declareWaiting, waitAsAsked } from '../waiting.ts'

export const runNow: CommandModule = {
  declare: (command) => {
    declareIdempotency(declareWaiting(command.argument('<schedule>', 'id or name')))
  },
  async run(context, given) {
    const client = clientOf(context)
    const { id } = await findSchedule(context, given)
    const created = await client.schedules.runNow({
      params: { schedule_id: id },
      signal: context.signal,
      ...idempotencyOf(given.options),
    })
    const said = [
      `Spawned ambient agent with run ID: ${created.run_id}`,
      `View run: ${webAddress(context, created.run_id)}`,
    ]
    return waitAsAsked(context, client, given.options, { created, said })
  },
}

const COUNT = `--count is a whole number from 1 to ${NEXT_TIMES_MAX}.`
const Count = z.coerce.number(COUNT).int(COUNT).min(1, COUNT).max(NEXT_TIMES_MAX, COUNT).default(5)

export const next: CommandModule = {
  declare: (command) =>
    void command.argument('<schedule>', 'id or name').option('--count <n>', 'how many; 5 where absent'),
  async run(context, given) {
    const count = read(Count, given.options.count)
    const { id } = await findSchedule(context, given)
    const params = { schedule_id: id }
    const answer = await clientOf(context).schedules.next({ params, query: { count }, signal: context.signal })
    const { times, time_zone } = answer
    const now = Date.now()
    await context.out.show(
      answer,
      () => alignColumns(times.map((time) => [onClock(time, time_zone), time, ahead(time, now)])),
      () => times,
    )
  },
}

const LIMIT = '--limit is a whole number from 1 to 500.'
const Listing = z.object({
  limit: z.coerce.number(LIMIT).int(LIMIT).min(1, LIMIT).max(500, LIMIT).default(20),
  cursor: z.string().optional(),
})

export const history: CommandModule = {
  declare: (command) => {
    command
      .argument('<schedule>', 'id or name')
      .option('-L, --limit <n>', 'how many at most; 20 where absent')
      .option('--cursor <cursor>', 'go on where an earlier list stopped')
  },
  async run(context, given) {
    const { out, signal } = context
    const query = queryOf(read(Listing, given.options)) ?? new URLSearchParams()
    const { id, time_zone } = await findSchedule(context, given)
    const path = API_PREFIX + fillPath(scheduleRoutes.history.path, { schedule_id: id })
    const body = await bodyOf(await clientOf(context).raw('GET', path, { query, signal }))
    const { firings, page_info } = scheduleRoutes.history.answer.parse(body)
    await out.show(
      body,
      () => {
        if (firings.length === 0) return []
        const rows = firings.map(({ due_at, cause, state, run_id, run_state, reason }) => [
          onClock(due_at, time_zone),
          cause === 'run_now' ? 'by hand' : state === 'failed' ? paint.red(state) : state,
          run_id ?? '',
          run_state === null ? '' : paintState(run_state),
          oneLine(reason ?? ''),
        ])
        return alignColumns([['TIME', 'CAME TO', 'RUN', 'STATE', 'WHY'].map(paint.dim), ...rows], out.width)
      },
      () => firings,
    )
    if (out.machine) return
    if (firings.length === 0) out.note('None of its times has come yet.')
    if (page_info.has_next_page && page_info.next_cursor)
      out.note(paint.dim(`There are more: add --cursor ${page_info.next_cursor}`))
  },
}

function read<T>(shape: z.ZodType<T>, given: unknown): T {
  const parsed = shape.safeParse(given)
  if (parsed.success) return parsed.data
  throw new CommandFailure('usage', parsed.error.issues[0]?.message ?? 'Wrong option.')
}
