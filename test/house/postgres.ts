/**
 * A real PostgreSQL for a vitest run, a benchmark or a script, with a migrated template database. Nothing in it
 * survives `close`, so it need not be durable.
 */
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { clientConfig, openDatabase, type SocketConnection } from '../../src/db/connect.ts'
import { openEmbedded } from '../../src/db/embedded.ts'
import { migrate } from '../../src/db/migrate.ts'

export const TEMPLATE = 'baton_template'
const FOLDER = /^baton-test-postgres-(\d+)-/

export async function startTestPostgres(): Promise<{ connection: SocketConnection; close(): Promise<void> }> {
  await removeLeftovers()
  const data_dir = await mkdtemp(join(tmpdir(), `baton-test-postgres-${process.pid}-`))
  // As root, PostgreSQL runs as nobody, who must pass through.
  await chmod(data_dir, 0o711)
  const embedded = await openEmbedded({
    data_dir,
    settings: {
      fsync: 'off',
      synchronous_commit: 'off',
      full_page_writes: 'off',
      max_connections: '400',
      autovacuum: 'off',
    },
  })
  const close = async () => {
    await embedded.close()
    await rm(data_dir, { recursive: true, force: true })
  }
  try {
    await maintain(embedded.connection, `create database ${TEMPLATE}`)
    const template = openDatabase({ connection: { ...embedded.connection, database: TEMPLATE } })
    await migrate(template)
    await template.close()
    return { connection: embedded.connection, close }
  } catch (error) {
    await close()
    throw error
  }
}

/** Runs one statement outside of any database that a test uses. */
export async function maintain(server: SocketConnection, statement: string): Promise<void> {
  const client = new pg.Client(clientConfig({ connection: { ...server, database: 'postgres' } }))
  await client.connect()
  try {
    await client.query(statement)
  } finally {
    await client.end()
  }
}

/** A run that was killed leaves its PostgreSQL, which ends by itself when its lock file is gone. */
async function removeLeftovers(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = Number(FOLDER.exec(name)?.[1])
    if (Number.isInteger(pid) && !isAlive(pid))
      await rm(join(tmpdir(), name), { recursive: true, force: true }).catch(() => undefined)
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
