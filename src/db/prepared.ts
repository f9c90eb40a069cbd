/**
 * Kysely's view of the pool, with the statements that come again and again prepared: PostgreSQL then parses and
 * plans them once a connection, which is most of what a short statement costs it. A transaction begins with its first
 * statement: `begin` is sent right before it, in one piece, as a pipelining pool can.
 *
 * Likewise `commit` goes with the last statement where that is known (`last`).
 *
 * A prepared statement lives as long as its connection, so only the first `STATEMENTS_MAX` texts that were seen
 * `SEEN_BEFORE` times get a name; lists of changing length make ever new texts.
 */
import type { Duplex } from 'node:stream'
import type { Kysely, PostgresPool, PostgresPoolClient, RawBuilder } from 'kysely'
import type pg from 'pg'
import type { DB } from './tables.ts'

const STATEMENTS_MAX = 200
const SEEN_BEFORE = 3
/** Texts whose first uses are counted; beyond, counting starts anew. */
const COUNTED_MAX = 2_000

const BEGIN = 'begin'
const COMMIT = 'commit'
const ROLLBACK = 'rollback'
/** What `begin` is answered with before it was sent, and what ends a transaction after that was done. */
const DONE = Promise.resolve({ command: 'BEGIN', rowCount: null, rows: [] })
/** Stands behind the parameters of a statement that is followed by `commit`. */
const LAST = Symbol('last')

/**
 * Executes what is surely the last statement of its transaction, and commits with it, in one piece. What fails in it
 * undoes the transaction, as ever.
 */
export async function last(write: Kysely<DB>, query: RawBuilder<unknown>): Promise<void> {
  const compiled = query.compile(write)
  await write.executeQuery({ ...compiled, parameters: [...compiled.parameters, LAST] })
}

export function preparing(pool: pg.Pool): PostgresPool {
  const names = new Map<string, string>()
  let seen = new Map<string, number>()

  function nameOf(text: string): string | undefined {
    const name = names.get(text)
    if (name !== undefined || names.size >= STATEMENTS_MAX) return name
    const times = (seen.get(text) ?? 0) + 1
    if (seen.size >= COUNTED_MAX) seen = new Map()
    seen.set(text, times)
    if (times <= SEEN_BEFORE) return undefined
    seen.delete(text)
    const fresh = `baton_${names.size}`
    names.set(text, fresh)
    return fresh
  }

  return {
    options: pool.options,
    async connect() {
      const client = await pool.connect()
      let begins = false
      let ended = false
      const query = (text: string, given: readonly unknown[]) => {
        if (text === BEGIN) {
          begins = true
          return DONE
        }
        if (ended && (text === COMMIT || text === ROLLBACK)) {
          ended = false
          return DONE
        }
        const ends = given.at(-1) === LAST
        const values = ends ? given.slice(0, -1) : [...given]
        const name = values.length > 0 ? nameOf(text) : undefined
        const statement = { text, values, ...(name === undefined ? {} : { name }) }
        const pieces = [...(begins ? [BEGIN] : []), statement, ...(ends ? [COMMIT] : [])]
        if (pieces.length === 1) return client.query(statement)
        const at = begins ? 1 : 0
        begins = false
        ended = ends
        return together(client, pieces, at)
      }
      // Of Kysely's two ways to query only this one is used: cursors are `pg`'s own affair here.
      return { query: query as unknown as PostgresPoolClient['query'], release: (destroy) => client.release(destroy) }
    },
    end: () => pool.end(),
  }
}

/** All in one write; each fails where one before it did. The answer is that of the one at `at`. */
async function together(client: pg.PoolClient, pieces: (string | pg.QueryConfig)[], at: number) {
  const { stream } = (client as unknown as { connection: { stream: Duplex } }).connection
  stream.cork()
  const answers = pieces.map((piece) => client.query(piece as pg.QueryConfig))
  stream.uncork()
  return (await Promise.all(answers))[at] as pg.QueryResult
}
