import type { Command } from 'commander'
import { z } from 'zod'
import { API_PREFIX, PageInfo, Run, runRoutes } from '../../contract/index.ts'
import { queryOf } from '../../sdk/client.ts'
import { bodyOf, type Context, clientOf, type Given } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { paint } from '../output.ts'
import { runRow } from '../states.ts'
import { alignColumns, parseDuration } from '../text.ts'

const underscores = (value: string) => value.toUpperCase().replaceAll('-', '_')
const collect = (value: string, before: string[] = []) => [...before, ...value.split(',')]

export function declare(command: Command): void {
  command
    .option('-L, --limit <n>', 'how many at most; 20 where absent, with --ancestor-run all')
    .option(
      '--state <state>',
      'queued, pending, claimed, in-progress, succeeded, failed, error, blocked, cancelled; may be repeated',
      collect,
    )
    .option(
      '--source <source>',
      'api, cli, web-app, local, interactive, scheduled-agent, slack, linear, github-action, …',
    )
    .option('--execution-location <where>', 'local or remote')
    .option('--creator <uid>', 'who made them')
    .option('--name <name>', 'the name in their configuration')
    .option('--ancestor-run <run>', 'children of this run')
    .option('--created-after <time>', 'RFC 3339, or a duration such as 2h')
    .option('--created-before <time>', 'likewise')
    .option('--updated-after <time>', 'likewise')
    .option('-q, --query <text>', 'text in title or prompt')
    .option('--sort-by <field>', 'updated-at or created-at')
    .option('--sort-order <order>', 'asc or desc')
    .option('--cursor <cursor>', 'go on where an earlier list stopped')
}

const Options = z.object({
  limit: z.coerce
    .number('--limit is a number')
    .int()
    .min(1, '--limit is at least 1')
    .max(500, '--limit is at most 500')
    .optional(),
  state: z.array(z.string()).optional(),
  source: z.string().optional(),
  executionLocation: z.string().optional(),
  creator: z.string().optional(),
  name: z.string().optional(),
  ancestorRun: z.string().optional(),
  createdAfter: z.string().optional(),
  createdBefore: z.string().optional(),
  updatedAfter: z.string().optional(),
  query: z.string().optional(),
  sortBy: z.string().optional(),
  sortOrder: z.string().optional(),
  cursor: z.string().optional(),
})

const LIMIT = 20
const PAGE = 500

const Listed = z.object({ runs: z.array(Run), page_info: PageInfo })
const Paged = z.looseObject({ runs: z.array(z.unknown()), page_info: PageInfo })

export async function run(context: Context, given: Given): Promise<void> {
  const query = queryFrom(given.options)
  const body =
    query.ancestor_run_id !== undefined && query.limit === undefined
      ? await everyPage(context, query)
      : await onePage(context, { ...query, limit: query.limit ?? LIMIT })
  const { runs, page_info } = Listed.parse(body)
  const now = Date.now()
  await context.out.show(
    body,
    () => {
      if (runs.length === 0) return []
      return alignColumns(
        [['RUN', 'STATE', 'CREATED', 'HARNESS', 'TITLE'].map(paint.dim), ...runs.map((run) => runRow(run, now))],
        context.out.width,
      )
    },
    () => z.looseObject({ runs: z.array(z.unknown()) }).parse(body).runs,
  )
  if (context.out.machine) return
  if (runs.length === 0) context.out.note('No runs. Make one with: baton agent run-cloud "what is to be done"')
  if (page_info.has_next_page && page_info.next_cursor)
    context.out.note(paint.dim(`There are more: add --cursor ${page_info.next_cursor}`))
}

const onePage = async (context: Context, query: Record<string, unknown>): Promise<unknown> =>
  bodyOf(
    await clientOf(context).raw('GET', API_PREFIX + runRoutes.list.path, {
      query: queryOf(query) ?? new URLSearchParams(),
      signal: context.signal,
    }),
  )

/** As one page, since who asks for the children of a run wants them all; in an order that does not change meanwhile. */
async function everyPage(context: Context, query: Record<string, unknown>): Promise<unknown> {
  const runs: unknown[] = []
  const sort_by = query.sort_by ?? 'created_at'
  for (let cursor = query.cursor; ; ) {
    const page = Paged.parse(await onePage(context, { ...query, sort_by, limit: PAGE, cursor }))
    runs.push(...page.runs)
    if (!page.page_info.has_next_page || page.page_info.next_cursor === undefined)
      return { ...page, runs, page_info: { has_next_page: false } }
    cursor = page.page_info.next_cursor
  }
}

function queryFrom(options: Record<string, unknown>): Record<string, unknown> {
  const parsed = Options.safeParse(options)
  if (!parsed.success) throw new CommandFailure('usage', `${parsed.error.issues[0]?.message ?? 'Wrong option'}.`)
  const o = parsed.data
  return {
    limit: o.limit,
    state: o.state?.map((s) => underscores(s)),
    source: o.source === undefined ? undefined : sourceOf(o.source),
    execution_location: o.executionLocation?.toUpperCase(),
    creator: o.creator,
    name: o.name,
    ancestor_run_id: o.ancestorRun,
    created_after: timeOf('--created-after', o.createdAfter),
    created_before: timeOf('--created-before', o.createdBefore),
    updated_after: timeOf('--updated-after', o.updatedAfter),
    q: o.query,
    sort_by: o.sortBy?.replaceAll('-', '_'),
    sort_order: o.sortOrder,
    cursor: o.cursor,
  }
}

const sourceOf = (source: string): string => (source === 'interactive' ? 'LOCAL' : underscores(source))

/** RFC 3339 as given; a duration is that long ago. */
export function timeOf(flag: string, text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const ms = parseDuration(text)
  if (ms !== null) return new Date(Date.now() - ms).toISOString()
  if (Number.isNaN(Date.parse(text)))
    throw new CommandFailure(
      'usage',
      `${flag} "${text}" is no time.`,
      'Write it as 2026-01-31T12:00:00Z or as a duration such as 90m.',
    )
  return new Date(text).toISOString()
}
