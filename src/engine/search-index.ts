/**
 * The index by which words of runs are found. PostgreSQL sets new entries aside in a list (`gin_pending_list_limit`,
 * 512 kB) and merges it in the statement that fills it: one new run in about a hundred then took 100 ms longer in a
 * store with a million. Every server merges it each second instead, so that a new run seldom does, and a search has
 * little to read besides.
 */
import { sql } from 'kysely'
import type { Room } from './engine.ts'

/**
 * New runs go on meanwhile: PostgreSQL has one merge at a time, whoever adds to the list then leaves it to that one,
 * and another that was asked for waits for its end. A list that is empty costs a page read.
 */
export async function mergeSearchIndex({ database, log }: Room): Promise<void> {
  try {
    // Only where the index is (it takes extensions) and is ours, as PostgreSQL asks of who merges.
    await sql`
      select gin_clean_pending_list(oid)
      from pg_class where oid = to_regclass('run_texts_search') and pg_has_role(relowner, 'usage')`.execute(
      database.kysely,
    )
  } catch (error) {
    // A vacuum that merges it was waited for in vain; what is left is merged the next time, or by a new run.
    log.debug({ err: error }, 'search.merge_failed')
  }
}
