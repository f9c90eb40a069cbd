/** Starts the real, built command line in a home of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import type { z } from 'zod'
import { ENTRY, Ready } from '../house/baton.ts'

export type Ended = { code: number | null; stdout: string; stderr: string }
export type Started = {
  child: ChildProcess
  ended: Promise<Ended>
  seen(stream: 'stdout' | 'stderr', text: string): Promise<void>
}
export type Home = {
  folder: string
  env: Record<string, string>
  start(args: string[], how?: How): Started
  run(args: string[], how?: How): Promise<Ended>
  remove(): Promise<void>
}
type How = { env?: Record<string, string>; stdin?: string; cwd?: string }

export async function makeHome(): Promise<Home> {
  const folder = await mkdtemp(join(tmpdir(), 'baton-cli-'))
  const env = { PATH: process.env.PATH ?? '', HOME: folder, LANG: 'C.UTF-8' }
  const start = (args: string[], how: How = {}) =>
    startBaton(args, { cwd: folder, ...how, env: { ...env, ...how.env } })
  return {
    folder,
    env,
    start,
    run: (args, how) => start(args, how).ended,
    remove: () => rm(folder, { recursive: true, force: true, maxRetries: 5 }),
  }
}

function startBaton(args: string[], how: How & { env: Record<string, string> }): Started {
  const child = spawn(process.execPath, [ENTRY, ...args], {
    env: how.env,
    cwd: how.cwd,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const text = { stdout: '', stderr: '' }
  const watchers = new Set<() => void>()
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (part: string) => {
      text[name] += part
      for (const watcher of watchers) watcher()
    })
  }
  child.stdin.on('error', () => {})
  child.stdin.end(how.stdin ?? '')
  const ended = new Promise<Ended>((resolve) =>
    child.on('close', (code) => {
      resolve({ code, ...text })
      for (const watcher of watchers) watcher()
    }),
  )
  const seen = (stream: 'stdout' | 'stderr', wanted: string) =>
    new Promise<void>((resolve, reject) => {
      const look = () => {
        if (text[stream].includes(wanted)) resolve()
        else if (child.exitCode !== null) reject(new Error(`ended without "${wanted}": ${text.stdout}${text.stderr}`))
        else return
        watchers.delete(look)
      }
      watchers.add(look)
      look()
    })
  return { child, ended, seen }
}

export type Server = z.infer<typeof Ready> & { data_dir: string; started: Started; stop(): Promise<Ended> }

/** `baton up` on a folder in `home`, ready. */
export async function startUp(home: Home, args: string[] = [], name = 'data'): Promise<Server> {
  const data_dir = join(home.folder, name)
  const ready_file = join(home.folder, `${name}.ready.json`)
  await rm(ready_file, { force: true })
  const started = home.start(['up', '--port', '0', '--data-dir', data_dir, '--ready-file', ready_file, ...args])
  const ready = await poll(async () => {
    if (started.child.exitCode !== null) throw new Error((await started.ended).stderr)
    return Ready.parse(JSON.parse(await readFile(ready_file, 'utf8')))
  })
  return {
    ...ready,
    data_dir,
    started,
    stop: () => {
      started.child.kill('SIGTERM')
      return started.ended
    },
  }
}

/** Until `look` neither throws ENOENT nor answers nothing. */
export async function poll<T>(look: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    const found = await look().catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error
      return undefined
    })
    if (found !== undefined) return found
    await wait(25)
  }
}
