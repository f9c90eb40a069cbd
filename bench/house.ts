/** What is measured: the built product in processes of its own, in a temporary folder. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import pg from 'pg'
import { WebSocket } from 'ws'
import { z } from 'zod'
import { findPlace } from '../src/db/place.ts'
import { readPostmaster } from '../src/db/postgres-process.ts'
import { postgresUser } from '../src/db/postgres-user.ts'
import { type Client, connect, pause } from '../src/sdk/client.ts'
import { freePort } from '../test/house/port.ts'

export const ENTRY = resolve(import.meta.dirname, '../bin/baton.js')

const Ready = z.object({ url: z.string(), api_key: z.string(), pid: z.int() })
const READY_MS = 60_000

export type Up = {
  url: string
  api_key: string
  pid: number
  data_dir: string
  client: Client
  /** Where its inspector listens, if it was asked for. */
  inspector: number | null
  close(): Promise<void>
}

export async function up(args: string[] = [], options: { inspect?: boolean } = {}): Promise<Up> {
  const folder = await mkdtemp(join(tmpdir(), 'baton-bench-'))
  // So that PostgreSQL's user can pass through when we are root.
  await chmod(folder, 0o755)
  const ready_file = join(folder, 'ready.json')
  const data_dir = join(folder, 'data')
  const command = [ENTRY, 'up', '--port', '0', '--data-dir', data_dir, '--ready-file', ready_file, ...args]
  const inspector = options.inspect ? await freePort() : null
  const flags = inspector === null ? [] : [`--inspect=127.0.0.1:${inspector}`, '--inspect-publish-uid=http']
  const child = spawn(process.execPath, [...flags, ...command], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, HOME: folder },
  })
  const ready = await waitForReady(child, ready_file)
  return {
    ...ready,
    data_dir,
    inspector,
    client: connect({ server: ready.url, token: ready.api_key }),
    async close() {
      const gone = new Promise((done) => child.once('exit', done))
      child.kill('SIGTERM')
      await gone
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function waitForReady(child: ChildProcess, file: string): Promise<z.infer<typeof Ready>> {
  const until = performance.now() + READY_MS
  while (performance.now() < until) {
    if (child.exitCode !== null) throw new Error(`baton up ended with ${child.exitCode} before it was ready`)
    const text = await readFile(file, 'utf8').catch(() => null)
    if (text !== null) return Ready.parse(JSON.parse(text))
    await pause(20)
  }
  throw new Error('baton up was not ready in time')
}

/** Its PostgreSQL, past the product: to set the scene, and for bare yardsticks. */
export async function openPool(baton: Up, options: { max?: number; database?: string } = {}): Promise<pg.Pool> {
  const running = await readPostmaster((await findPlace(baton.data_dir, await postgresUser())).cluster)
  if (!running) throw new Error('PostgreSQL does not run')
  const { max = 4, database = 'baton' } = options
  return new pg.Pool({ host: running.socket, user: 'baton', database, max })
}

/** What nothing points to any more does not count as memory in use. Twice: the first frees what the second finds. */
export async function collectGarbage({ inspector }: Up): Promise<void> {
  const listed = await fetch(`http://127.0.0.1:${inspector}/json/list`)
  const [target] = z.array(z.object({ webSocketDebuggerUrl: z.string() })).parse(await listed.json())
  const socket = new WebSocket(target?.webSocketDebuggerUrl ?? '')
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
  for (const id of [1, 2]) {
    const answered = new Promise((resolve) => socket.once('message', resolve))
    socket.send(JSON.stringify({ id, method: 'HeapProfiler.collectGarbage' }))
    await answered
  }
  socket.terminate()
}

/** Resident memory of a process in bytes, from the kernel. */
export async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? Number.NaN) * 1024
}

/** Processor time that a process has used, in seconds. */
export async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / ticksASecond()
}

const ticksASecond = () => Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))
