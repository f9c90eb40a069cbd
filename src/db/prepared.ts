/**
 * Kysely's view of the pool, with the statements that come again and again prepared: PostgreSQL then parses and
 * plans them once a connection, which is most of what a short statement costs it. A transaction begins with its first
 * statement: `begin` is sent right before it, in one piece, as a pipelining pool can.
 *
 * A prepared statement lives as long as its connection, so only the first `STATEMENTS_MAX` texts that were seen
 * `SEEN_BEFORE` times get a name; lists of changing length make ever new texts.
 */
import type { Duplex } from 'node:stream'
import type { PostgresPool, PostgresPoolClient } from 'kysely'
import type pg from 'pg'

const STATEMENTS_MAX = 200
const SEEN_BEFORE = 3
/** Texts whose first uses are counted; beyond, counting starts anew. */
const COUNTED_MAX = 2_000

const BEGIN = 'begin'
/** What `begin` is answered with before it was sent. */
const BEGUN = Promise.resolve({ command: 'BEGIN', rowCount: null, rows: [] })

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
      const query = (text: string, values: readonly unknown[]) => {
        if (text === BEGIN) {
          begins = true
          return BEGUN
        }
        const name = values.length > 0 ? nameOf(text) : undefined
        const statement = { text, values: [...values], ...(name === undefined ? {} : { name }) }
        if (!begins) return client.query(statement)
        begins = false
        return together(client, BEGIN, statement)
      }
      // Of Kysely's two ways to query only this one is used: cursors are `pg`'s own affair here.
      return { query: query as unknown as PostgresPoolClient['query'], release: (destroy) => client.release(destroy) }
    },
    end: () => pool.end(),
  }
}

/** Both in one write; the second fails where the first did. */
async function together(client: pg.PoolClient, first: string, second: pg.QueryConfig): Promise<pg.QueryResult> {
  const { stream } = (client as unknown as { connection: { stream: Duplex } }).connection
  stream.cork()
  const answers = [client.query(first), client.query(second)] as const
  stream.uncork()
  const [, answer] = await Promise.all(answers)
  return answer
}
