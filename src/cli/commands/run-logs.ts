import type { Command } from 'commander'
import { z } from 'zod'
import type { Entry } from '../../contract/index.ts'
import type { Client } from '../../sdk/client.ts'
import { type Context, clientOf, type Given } from '../context.ts'
import { bareText, entryLines, OUTPUT_LINES } from '../entries.ts'
import { CommandFailure, EXIT } from '../exits.ts'
import { followRun } from '../follow-run.ts'
import { paint } from '../output.ts'
import { interruption } from '../watch.ts'
import { timeOf } from './run-list.ts'

export function declare(command: Command): void {
  command
    .argument('<run>', 'id of the run')
    .option('-f, --follow', 'go on until the run has ended, also across restarts of the server')
    .option('--since <time>', 'entries since then: RFC 3339, or a duration such as 10m')
    .option('--tail <n>', 'the last entries only')
    .option('--full', 'whole outputs')
    .option('--raw', 'only what was said and printed, byte for byte (when stdout is not a terminal)')
}

const Options = z.object({
  follow: z.boolean().default(false),
  since: z.string().optional(),
  full: z.boolean().default(false),
  raw: z.boolean().default(false),
  tail: z.coerce.number('--tail is a number').int('--tail is a whole number').min(0, '--tail is 0 or more').optional(),
})

const PAGE = 200

export async function run(context: Context, given: Given): Promise<number> {
  const parsed = Options.safeParse(given.options)
  if (!parsed.success) throw new CommandFailure('usage', `${parsed.error.issues[0]?.message ?? 'Wrong option'}.`)
  const options = parsed.data
  const run_id = given.args[0] ?? ''
  const client = clientOf(context)
  const since = timeOf('--since', options.since)
  const print = async (entry: Entry): Promise<void> => {
    if (since !== undefined && Date.parse(entry.at) < Date.parse(since)) return
    const cut = entry.cut && (options.full || options.raw || context.out.machine)
    const whole = cut
      ? await client.transcripts.get({ params: { run_id, position: entry.position }, signal: context.signal })
      : entry
    if (options.raw && !context.out.machine) printBare(context, whole)
    else await context.out.record(whole, () => entryLines(whole, options.full ? Infinity : OUTPUT_LINES))
  }
  // A run that is not there is refused before anything is read.
  const begun = await client.runs.get({ params: { run_id }, signal: context.signal })
  const after =
    options.tail === undefined
      ? undefined
      : await printTail(client, { run_id, count: options.tail, print, signal: context.signal })
  if (!options.follow) {
    if (options.tail === undefined)
      for await (const entry of allEntries(client, run_id, context.signal)) await print(entry)
    if (begun.state === 'QUEUED' && !context.out.machine)
      context.out.note(paint.dim('The run has not started yet; -f waits for it.'))
    return EXIT.ok
  }
  try {
    for await (const sight of followRun({ client, run_id, after, signal: context.signal })) {
      if (sight.kind === 'entry') await print(sight.entry)
      if (sight.kind === 'line' && sight.state === 'down')
        context.out.note(paint.yellow('! the server does not answer; trying again'))
    }
  } catch (error) {
    throw interruption(context, run_id, null, error)
  }
  return EXIT.ok
}

function printBare(context: Context, entry: Entry): void {
  const text = bareText(entry.body)
  if (text === '') return
  const ended = text.endsWith('\n') || entry.body.kind === 'output' ? text : `${text}\n`
  if (context.out.terminal) context.out.line(ended.replace(/\n$/, ''))
  else context.out.raw(ended)
}

type Tail = { run_id: string; count: number; print: (entry: Entry) => Promise<void>; signal: AbortSignal }

/** Prints the last `count` entries; answers where they end. */
async function printTail(client: Client, { run_id, count, print, signal }: Tail): Promise<string> {
  const tail: Entry[] = []
  let before: string | undefined
  let last = ''
  do {
    const window = {
      limit: Math.min(PAGE, Math.max(1, count - tail.length)),
      ...(before === undefined ? {} : { before }),
    }
    const page = await client.transcripts.list({ params: { run_id }, query: window, signal })
    if (before === undefined) last = page.entries.at(-1)?.position ?? ''
    if (count > 0) tail.unshift(...page.entries)
    before = page.entries[0]?.position
    if (!page.has_earlier) break
  } while (tail.length < count && before !== undefined)
  for (const entry of tail.slice(-Math.max(count, 1))) await print(entry)
  return last
}

async function* allEntries(client: Client, run_id: string, signal: AbortSignal): AsyncGenerator<Entry> {
  for (let after = ''; ; ) {
    const page = await client.transcripts.list({ params: { run_id }, query: { after, limit: PAGE }, signal })
    yield* page.entries
    after = page.entries.at(-1)?.position ?? after
    if (!page.has_later || page.entries.length === 0) return
  }
}
