import { execFile } from 'node:child_process'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Command } from 'commander'
import type { CreateRun, Run } from '../../contract/index.ts'
import { type Client, connect } from '../../sdk/client.ts'
import type { Context } from '../context.ts'
import { entryLines } from '../entries.ts'
import { CommandFailure, EXIT } from '../exits.ts'
import { followRun } from '../follow-run.ts'
import { openHouse, startWorker } from '../house.ts'
import { paint } from '../output.ts'
import { paintState } from '../states.ts'
import { endLines } from '../watch.ts'

const MODEL_VARIABLES = ['ANTHROPIC_API_KEY', 'OPENAI_API_KEY', 'GEMINI_API_KEY', 'BATON_MODEL_BASE_URL']

const COUNT = `echo "Commits: $(git rev-list --count HEAD)"
echo "Files by kind:"
git ls-files | sed -n 's/.*\\.//p' | sort | uniq -c | sort -rn | head -5`
const SURVEY = 'Survey this repository and write a short report about it to BATON-REPORT.md.'
/** Lines shown of one tool's output. */
const OUTPUT_LINES = 4

export function declare(command: Command): void {
  command.addHelpText(
    'after',
    '\nEverything happens in a temporary folder that is removed at the end; your repository is cloned, never touched.',
  )
}

export async function run(context: Context): Promise<number> {
  const { out, env } = context
  const key = MODEL_VARIABLES.find((name) => env[name])
  const folder = await mkdtemp(join(tmpdir(), 'baton-demo-'))
  // PostgreSQL runs as another user when started by root, and has to reach its data.
  await chmod(folder, 0o711)
  const progress = out.progress('Starting')
  try {
    const repository = await findRepository(context, folder)
    const data_dir = join(folder, 'data')
    const house = await openHouse(context, {
      data_dir,
      host: '127.0.0.1',
      port: 0,
      log_level: context.debug ? 'debug' : 'error',
      progress,
    })
    try {
      const { url, api_key, log } = house
      const worker = await startWorker(context, {
        server: url,
        api_key,
        worker_id: 'demo',
        capacity: 2,
        state_dir: join(folder, 'worker'),
        log,
        allow_local_repositories: true,
      })
      try {
        progress.done()
        out.line(`${paint.green('Started')} PostgreSQL, a server at ${url} and a worker, all in ${folder}`)
        out.line(`Watch it on the page, too: ${await house.loginLink()}`)
        out.line(`Repository: ${repository.from}, cloned for each run`)
        out.line(
          key === undefined
            ? paint.yellow(
                'No model key is set, so a scripted model answers: its words are made up, all else is real (tools, files, processes).',
              )
            : `The built-in agent uses the model behind ${key}.`,
        )
        const client = connect({ server: url, token: api_key, headers: { 'x-oz-api-source': 'CLI' } })
        const ended = await bothRuns(context, client, repository.path, key === undefined)
        return close(context, ended)
      } finally {
        await worker.close({ end_runs: true })
      }
    } finally {
      progress.done()
      await house.close()
    }
  } finally {
    progress.done()
    await rm(folder, { recursive: true, force: true, maxRetries: 3 })
  }
}

async function bothRuns(context: Context, client: Client, url: string, scripted: boolean): Promise<Run[]> {
  const environment = { repositories: [{ url }] }
  const bodies: [string, CreateRun][] = [
    [
      paint.cyan('command │ '),
      {
        title: 'Count what is here',
        prompt: COUNT,
        config: { harness: { type: 'command' }, environment: full(environment) },
      },
    ],
    [
      paint.green('agent   │ '),
      {
        title: 'Say what this repository is',
        prompt: SURVEY,
        config: {
          harness: { type: 'baton' },
          ...(scripted ? { model_id: 'scripted' } : {}),
          environment: full(environment),
        },
      },
    ],
  ]
  return Promise.all(bodies.map(([prefix, body]) => shownRun(context, client, prefix, body)))
}

const full = (environment: { repositories: { url: string }[] }) => ({
  ...environment,
  setup_commands: [],
  variables: {},
})

async function shownRun(context: Context, client: Client, prefix: string, body: CreateRun): Promise<Run> {
  const { out, signal } = context
  const { run_id } = await client.runs.create({ body, signal })
  let state = ''
  for await (const sight of followRun({ client, run_id, signal })) {
    if (sight.kind === 'entry') for (const line of entryLines(sight.entry, OUTPUT_LINES)) out.line(prefix + line)
    if (sight.kind === 'run' && sight.run.state !== state) {
      state = sight.run.state
      if (sight.run.ended_at === null) out.line(`${prefix}${paintState(sight.run.state)}`)
      else for (const line of endLines(sight.run)) out.line(prefix + line)
    }
  }
  return client.runs.get({ params: { run_id }, signal })
}

function close(context: Context, runs: Run[]): number {
  const { out } = context
  out.line('')
  for (const run of runs) out.line(`${paintState(run.state)}  ${run.title}`)
  out.line('')
  out.line('Go on with:')
  out.line(
    '  npx baton up                                   the same for good; prints the address of the web page (http://127.0.0.1:4577)',
  )
  out.line('  npx baton agent run-cloud "…" --repo . --follow  give it work')
  out.line('  npx baton doctor                               what this machine has and lacks')
  return runs.every((run) => run.state === 'SUCCEEDED') ? EXIT.ok : EXIT.run_failed
}

const execute = promisify(execFile)

/** The repository that the demo stands in; where there is none, a small one made for it. */
async function findRepository(context: Context, folder: string): Promise<{ path: string; from: string }> {
  const git = (args: string[], cwd: string) => execute('git', args, { cwd, signal: context.signal })
  await git(['--version'], folder).catch(() => {
    throw new CommandFailure(
      'failed',
      'git is missing.',
      'Install it (Debian: apt-get install git; macOS: xcode-select --install) and try again.',
    )
  })
  const top = await git(['rev-parse', '--show-toplevel', 'HEAD'], context.cwd).then(
    ({ stdout }) => stdout.split('\n')[0],
    () => undefined,
  )
  if (top) return { path: top, from: top }
  const path = join(folder, 'sample')
  await mkdir(path)
  await writeFile(join(path, 'README.md'), '# Sample\n\nA small repository made for the demo of Baton.\n')
  await writeFile(join(path, 'greet.sh'), '#!/bin/sh\necho "Hello, ${1:-world}"\n')
  await git(['init', '-q'], path)
  await git(['add', '.'], path)
  await git(['-c', 'user.name=Baton', '-c', 'user.email=demo@localhost', 'commit', '-q', '-m', 'A sample'], path)
  return { path, from: 'a small one made for this demo, since this folder is in none' }
}
