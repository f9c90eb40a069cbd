/** The demo's piece of work: a parent that gives a repository to three children, hears from each and writes one report. */
import type { CreateRun, Entry, Run } from '../contract/index.ts'
import type { Client } from '../sdk/client.ts'
import type { Context } from './context.ts'
import { CommandFailure, EXIT } from './exits.ts'
import { paint } from './output.ts'
import { livingNodes } from './tree.ts'
import { watch } from './watch.ts'

const REPORT = 'BATON-REPORT.md'

const ASKED = `Orchestrate a look at this repository: start three children with run_agents, all in one call.
1. count-files: harness "command", whose prompt is a shell command that counts the files by kind.
2. read-history: harness "baton", which looks at the commits of the last weeks and says what changed.
3. read-docs: harness "baton", which reads what explains the repository and says what it is for.
Ask the two that have a model to send you what they find as a message. Wait for all three with wait_for_events; read
what the command printed with fetch_conversation. Then write one short report to ${REPORT} and finish.`

/** Lines shown of one tool's output. */
const OUTPUT_LINES = 4
const PAGE = 200

export type Orchestration = { run: Run; exit: number; report: string | undefined }

export async function orchestrate(
  context: Context,
  client: Client,
  repository: string,
  scripted: boolean,
): Promise<Orchestration> {
  const { signal } = context
  const body: CreateRun = {
    title: 'Look at this repository from three sides',
    prompt: ASKED,
    config: {
      name: 'lead',
      harness: { type: 'baton' },
      ...(scripted ? { model_id: 'scripted' } : {}),
      environment: { repositories: [{ url: repository }], setup_commands: [], variables: {} },
    },
  }
  const { run_id } = await client.runs.create({ body, signal })
  const exit = await watch(context, { client, run_id, entries: true, lines_max: OUTPUT_LINES }).catch(
    (error: unknown) => {
      if (!(error instanceof CommandFailure) || error.exit !== 'interrupted') throw error
      throw new CommandFailure('interrupted', 'The demo was stopped; nothing of it is left.')
    },
  )
  const run = await client.runs.get({ params: { run_id }, signal })
  const below = await client.trees.get({ params: { run_id }, signal })
  const all_ended = livingNodes(below).length === 0 && below.nodes.length > 1
  return {
    run,
    exit: exit === EXIT.ok && !all_ended ? EXIT.run_failed : exit,
    report: await findReport(client, run_id, signal),
  }
}

/** What the parent wrote, else its last words. */
async function findReport(client: Client, run_id: string, signal: AbortSignal): Promise<string | undefined> {
  let report: string | undefined
  let words: string | undefined
  for (let after = ''; ; ) {
    const page = await client.transcripts.list({ params: { run_id }, query: { after, limit: PAGE }, signal })
    for (const one of page.entries) {
      if (one.body.kind === 'text') words = one.body.text
      report = writtenIn(await whole(client, one, signal)) ?? report
    }
    after = page.entries.at(-1)?.position ?? after
    if (!page.has_later || page.entries.length === 0) return report ?? words
  }
}

const whole = (client: Client, { cut, run_id, position, ...entry }: Entry, signal: AbortSignal): Promise<Entry> =>
  cut && entry.body.kind === 'tool_result'
    ? client.transcripts.get({ params: { run_id, position }, signal })
    : Promise.resolve({ ...entry, run_id, position })

const writtenIn = ({ body }: Entry): string | undefined =>
  body.kind === 'tool_result' ? body.changes?.findLast(({ path }) => path.endsWith(REPORT))?.new_text : undefined

export function orchestrationLines({ run, report }: Orchestration): string[] {
  return [
    '',
    paint.bold(REPORT),
    ...(report ?? `Run ${run.run_id} wrote none.`)
      .trimEnd()
      .split('\n')
      .map((line) => `  ${line}`),
    '',
  ]
}
