import { execFile } from 'node:child_process'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Command } from 'commander'
import { connect } from '../../sdk/client.ts'
import type { Context } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { openHouse, startWorker } from '../house.ts'
import { orchestrate, orchestrationLines } from '../orchestration.ts'
import { paint } from '../output.ts'
import { alignColumns } from '../text.ts'

const MODEL_VARIABLES = ['ANTHROPIC_API_KEY', 'OPENAI_API_KEY', 'GEMINI_API_KEY', 'BATON_MODEL_BASE_URL']

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
      own_machine: true,
    })
    try {
      const { url, api_key, log } = house
      const worker = await startWorker(context, {
        server: url,
        api_key,
        worker_id: 'demo',
        capacity: 4,
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
                'No model key is set, so a scripted model answers: its words are made up, all else is real (agents, messages, tools, files, processes).',
              )
            : `The built-in agent uses the model behind ${key}.`,
        )
        const client = connect({ server: url, token: api_key, headers: { 'x-oz-api-source': 'CLI' } })
        const done = await orchestrate(context, client, repository.path, key === undefined)
        for (const line of orchestrationLines(done)) out.line(line)
        out.line('Go on with:')
        for (const line of alignColumns(GO_ON)) out.line(`  ${line}`)
        return done.exit
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

const GO_ON = [
  ['npx baton up', 'the same for good; prints the address of the web page (http://127.0.0.1:4577)'],
  ['npx baton agent run-cloud "…" --repo . --follow', 'give it work; --harness claude, codex, gemini, opencode, …'],
  ['npx baton run tree RUN', 'a run with all that descends from it; run watch RUN shows it move'],
  ['npx baton doctor', 'what this machine has and lacks'],
]

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
