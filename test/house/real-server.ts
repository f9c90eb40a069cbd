/**
 * A PostgreSQL that is not embedded: reached over TCP with a password. `BATON_TEST_DATABASE_URL` names one whose
 * user may create databases; without it, one is started from the same binaries on a free port of the loopback.
 */
import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { findBinaries } from '../../src/db/binaries.ts'
import { makeCluster } from '../../src/db/initdb.ts'
import { findPlace } from '../../src/db/place.ts'
import { SETTINGS, startPostgres, stopPostgres } from '../../src/db/postgres-process.ts'
import { postgresUser } from '../../src/db/postgres-user.ts'
import { freePort } from './port.ts'

export type RealServer = { url: string; close(): Promise<void> }

/** The URL is of a new, empty database. */
export async function realServer(): Promise<RealServer> {
  const given = process.env.BATON_TEST_DATABASE_URL
  const server = given === undefined ? await startServer() : { url: given, close: async () => undefined }
  const name = `test_${randomBytes(6).toString('hex')}`
  await run(server.url, `create database ${name}`)
  const url = new URL(server.url)
  url.pathname = `/${name}`
  return {
    url: url.href,
    async close() {
      await run(server.url, `drop database if exists ${name} with (force)`)
      await server.close()
    },
  }
}

async function startServer(): Promise<RealServer> {
  const data_dir = await mkdtemp(join(tmpdir(), 'baton-real-'))
  await chmod(data_dir, 0o711)
  const user = await postgresUser()
  const place = await findPlace(data_dir, user)
  const binaries = await findBinaries(user, { fallback_dir: data_dir })
  await makeCluster(place, binaries, user, { durable: false })
  const hba_file = join(data_dir, 'hba.conf')
  await writeFile(hba_file, 'local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n', { mode: 0o644 })
  const port = await freePort()
  const started = await startPostgres(place, binaries, user, {
    ...SETTINGS,
    fsync: 'off',
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: place.cluster,
    hba_file,
  })
  const socket = `postgres://baton@localhost:${port}/postgres?host=${encodeURIComponent(place.cluster)}`
  for (let tries = 0; ; tries += 1) {
    const error: unknown = await run(socket, `alter role baton password 'open sesame'`).catch(
      (reason: unknown) => reason,
    )
    if (error === undefined) break
    if (tries > 500 || started.failure() !== null) throw error
    await delay(20)
  }
  return {
    url: `postgres://baton:${encodeURIComponent('open sesame')}@127.0.0.1:${port}/postgres`,
    async close() {
      await stopPostgres(started.pid, place.cluster)
      await rm(data_dir, { recursive: true, force: true })
    },
  }
}

async function run(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => undefined)
  try {
    await client.connect()
    await client.query(statement)
  } finally {
    await client.end().catch(() => undefined)
  }
}
