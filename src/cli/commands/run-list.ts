import type { Command } from 'commander'
import { z } from 'zod'
import { API_PREFIX, PageInfo, RUN_SOURCES, RUN_STATES, Run, runRoutes } from '../../contract/index.ts'
import { queryOf } from '../../sdk/client.ts'
import { bodyOf, type Context, clientOf, type Given } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { paint } from '../output.ts'
import { runRow } from '../states.ts'
import { alignColumns, parseDuration } from '../text.ts'

/** How many, where nothing is said: as the `oz` command does. */
const LIMIT = 10
const PAGE = 500

const dashed = (name: string) => name.toLowerCase().replaceAll('_', '-')
const STATES = RUN_STATES.map((state) => dashed(state.replace('INPROGRESS', 'IN_PROGRESS')))
const SOURCES = [...RUN_SOURCES.map(dashed), 'interactive']
const LOCATIONS = ['local', 'remote']
const ARTIFACT_TYPES = ['plan', 'pull-request', 'screenshot', 'file', 'external-reference']
const SORTS = ['updated-at', 'created-at', 'title', 'agent']

const collect = (value: string, before: string[] = []) => [...before, ...value.split(',')]
const collectWhole = (value: string, before: string[] = []) => [...before, value]

export function declare(command: Command): void {
  command
    .option('-L, --limit <n>', `how many at most; ${LIMIT} where absent, with --ancestor-run all`)
    .option('--state <state>', `${STATES.join(', ')}; may be repeated`, collect)
    .option('--source <source>', `${SOURCES.join(', ')}`)
    .option('--execution-location <where>', 'local or remote')
    .option('--creator <who>', 'uid or e-mail address of who made them')
    .option(
      '--executor <who>',
      'uid of the agent, or uid or e-mail address of the person, in whose name they are worked on',
    )
    .option('--environment <environment>', 'uid or name; empty-environment: runs that have none')
    .option('--skill <skill>', 'as it was asked for')
    .option('--schedule <id>', 'made by this schedule')
    .option('--ancestor-run <run>', 'children of this run')
    .option('--name <name>', 'the name in their configuration')
    .option('--model <id>', 'the model in their configuration')
    .option('--artifact-type <type>', `${ARTIFACT_TYPES.join(', ')}: runs that have made one`)
    .option('--metadata <key=value>', 'may be repeated', collectWhole)
    .option('--created-after <time>', 'RFC 3339, or a duration such as 2h')
    .option('--created-before <time>', 'likewise')
    .option('--updated-after <time>', 'likewise')
    .option('-q, --query <words>', 'words in title, prompt or skill')
    .option('--sort-by <field>', SORTS.join(', '))
    .option('--sort-order <order>', 'asc or desc')
    .option('--cursor <cursor>', 'go on where an earlier list with the same filters stopped')
}

/** One of these, in any case and with - or _. */
const oneOf = (flag: string, names: readonly string[]) =>
  z.string().transform((given, context) => {
    const name = dashed(given).replace(/^inprogress$/, 'in-progress')
    if (names.includes(name)) return name
    context.addIssue(`${flag} ${JSON.stringify(given)} is none of ${names.join(', ')}`)
    return z.NEVER
  })

const Pair = z.string().transform((given, context) => {
  const at = given.indexOf('=')
  if (at > 0) return [given.slice(0, at), given.slice(at + 1)] as const
  context.addIssue(`--metadata ${JSON.stringify(given)} is not written as key=value`)
  return z.NEVER
})

const Options = z.object({
  limit: z.coerce
    .number('--limit is a number')
    .int()
    .min(1, '--limit is at least 1')
    .max(500, '--limit is at most 500')
    .optional(),
  state: z.array(oneOf('--state', STATES)).optional(),
  source: oneOf('--source', SOURCES).optional(),
  executionLocation: oneOf('--execution-location', LOCATIONS).optional(),
  creator: z.string().optional(),
  executor: z.string().optional(),
  environment: z.string().optional(),
  skill: z.string().optional(),
  schedule: z.string().optional(),
  ancestorRun: z.string().optional(),
  name: z.string().optional(),
  model: z.string().optional(),
  artifactType: oneOf('--artifact-type', ARTIFACT_TYPES).optional(),
  metadata: z.array(Pair).optional(),
  createdAfter: z.string().optional(),
  createdBefore: z.string().optional(),
  updatedAfter: z.string().optional(),
  query: z.string().optional(),
  sortBy: oneOf('--sort-by', SORTS).optional(),
  sortOrder: oneOf('--sort-order', ['asc', 'desc']).optional(),
  cursor: z.string().optional(),
})

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
    state: o.state?.map((state) => underscored(state).replace('IN_PROGRESS', 'INPROGRESS')),
    source: o.source === 'interactive' ? 'LOCAL' : underscored(o.source),
    execution_location: underscored(o.executionLocation),
    creator: o.creator,
    executor: o.executor,
    environment_id: o.environment,
    skill: o.skill,
    schedule_id: o.schedule,
    ancestor_run_id: o.ancestorRun,
    name: o.name,
    model_id: o.model,
    artifact_type: underscored(o.artifactType),
    metadata: o.metadata === undefined ? undefined : Object.fromEntries(o.metadata),
    created_after: timeOf('--created-after', o.createdAfter),
    created_before: timeOf('--created-before', o.createdBefore),
    updated_after: timeOf('--updated-after', o.updatedAfter),
    q: o.query,
    sort_by: o.sortBy?.replaceAll('-', '_'),
    sort_order: o.sortOrder,
    cursor: o.cursor,
  }
}

function underscored<T extends string | undefined>(name: T): T {
  return name?.toUpperCase().replaceAll('-', '_') as T
}

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
