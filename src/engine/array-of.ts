import { type RawBuilder, sql } from 'kysely'

/**
 * An array as a parameter into which PostgreSQL's planner does not look. With its length in sight each call seems to
 * deserve a plan of its own, and planning costs a short statement more than it does itself; so one plan is kept.
 */
export const arrayOf = <T>(
  type: 'uuid' | 'text' | 'int' | 'int8' | 'bool' | 'timestamptz' | 'jsonb' | 'bytea',
  rows: readonly T[],
  of: (row: T, at: number) => unknown,
): RawBuilder<unknown> => sql`(select ${rows.map(of)}::${sql.raw(type)}[])`
