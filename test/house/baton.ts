/** The built product as processes of their own, for tests that kill it. `npm run build` comes first. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { type Client, connect } from '../../src/sdk/client.ts'
import { until } from './processes.ts'

/** What `baton` starts. */
export const ENTRY = resolve(import.meta.dirname, '../../bin/baton.js')
/** What a ready file says. */
export const Ready = z.object({ url: z.string(), api_key: z.string(), pid: z.int() })

export type BatonProcess = { child: ChildProcess; output(): string; kill(signal?: NodeJS.Signals): Promise<void> }

/** Starts a command of baton; `kill` resolves when the process has ended. */
export function startBaton(args: string[], env: Record<string, string>): BatonProcess {
  const child = spawn(process.execPath, [ENTRY, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (bytes: Buffer) => {
      output += bytes.toString()
    })
  }
  const gone = new Promise<void>((done) => child.once('exit', () => done()))
  return {
    child,
    output: () => output,
    async kill(signal = 'SIGKILL') {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal)
      await gone
    },
  }
}

export type Place = { folder: string; data_dir: string; env: Record<string, string>; remove(): Promise<void> }

/** An empty HOME and data folder. */
export async function emptyPlace(): Promise<Place> {
  const folder = await mkdtemp(join(tmpdir(), 'baton-test-'))
  // So that PostgreSQL's user can pass through when we are root, and the data lies inside.
  await chmod(folder, 0o755)
  return {
    folder,
    data_dir: join(folder, 'data'),
    env: { PATH: process.env.PATH ?? '', HOME: folder, XDG_CACHE_HOME: join(folder, 'cache'), NO_COLOR: '1' },
    remove: () => rm(folder, { recursive: true, force: true }),
  }
}

/** Waits for the ready file of a starting process; its output is the failure's text when it ends instead. */
export async function waitUntilReady(baton: BatonProcess, file: string) {
  return until(
    'baton is ready',
    async () => {
      if (baton.child.exitCode !== null) throw new Error(`baton ended before it was ready:\n${baton.output()}`)
      return existsSync(file) ? Ready.parse(JSON.parse(await readFile(file, 'utf8'))) : null
    },
    40_000,
  )
}

export type Up = { client: Client; url: string; api_key: string; process: BatonProcess }

export async function startUp(place: Place, args: string[] = []): Promise<Up> {
  const file = join(place.folder, `ready-${Math.random().toString(36).slice(2)}.json`)
  const process = startBaton(['up', '--data-dir', place.data_dir, '--ready-file', file, ...args], place.env)
  const { url, api_key } = await waitUntilReady(process, file)
  return { client: connect({ server: url, token: api_key }), url, api_key, process }
}
