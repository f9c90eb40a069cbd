/** A server of the same process and database, each of whose statements a test can hold up, break, or let something happen before. */
import { randomUUID } from 'node:crypto'
import { tmpdir } from 'node:os'
import { Kysely, PostgresDialect } from 'kysely'
import pino from 'pino'
import { onTestFinished } from 'vitest'
import { preparing } from '../../src/db/prepared.ts'
import type { DB } from '../../src/db/tables.ts'
import { folderBlobs } from '../../src/engine/blobs.ts'
import { openEngine } from '../../src/engine/engine.ts'
import type { Opened } from './family.ts'

/** `go` sends the statement. */
export type Ask = (text: string, go: () => Promise<unknown>) => Promise<unknown>

/** It is closed when the test has finished. */
export async function serverThatAsks({ database, clock }: Pick<Opened, 'database' | 'clock'>, ask: Ask) {
  const pool = preparing(database.pool)
  const connect = async () => {
    const client = await pool.connect()
    const query = (text: string, values: readonly unknown[]) => ask(text, async () => client.query(text, values))
    return { ...client, query }
  }
  const kysely = new Kysely<DB>({ dialect: new PostgresDialect({ pool: { ...pool, connect } as never }) })
  const asked = { ...database, kysely, byIndex: kysely }
  const log = pino({ level: 'silent' })
  const blobs = folderBlobs(tmpdir())
  const server = await openEngine({ database: asked, clock, blobs, log, server_id: randomUUID() })
  onTestFinished(() => server.close())
  return server
}
