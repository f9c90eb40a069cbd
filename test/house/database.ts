/**
 * A database for each test that asks for one: real, migrated, empty, its own. It is cloned from a template in the
 * PostgreSQL that `global-setup.ts` starts once per vitest run and hands over as `inject('postgres')`.
 */
import { randomBytes } from 'node:crypto'
import { inject } from 'vitest'
import { type Database, type DatabaseOptions, openDatabase, type SocketConnection } from '../../src/db/connect.ts'
import { maintain, TEMPLATE } from './postgres.ts'

export { startTestPostgres } from './postgres.ts'

declare module 'vitest' {
  interface ProvidedContext {
    postgres: SocketConnection
  }
}

export type FreshDatabase = Database & { connection: SocketConnection }

/** A migrated, empty database (20 ms); `close` drops it. `migrated: false` gives one without a schema. */
export async function freshDatabase(
  options: DatabaseOptions & { server?: SocketConnection; migrated?: boolean } = {},
): Promise<FreshDatabase> {
  const server = options.server ?? inject('postgres')
  const connection = { ...server, database: `test_${randomBytes(6).toString('hex')}` }
  await maintain(
    server,
    `create database ${connection.database} template ${options.migrated === false ? 'template0' : TEMPLATE} strategy file_copy`,
  )
  const database = openDatabase({ connection }, options)
  return {
    ...database,
    connection,
    async close() {
      await database.close()
      await maintain(server, `drop database if exists ${connection.database} with (force)`)
    },
  }
}
