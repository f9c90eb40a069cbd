/** How jsonb looks to queries: whatever JSON goes in, something to be parsed comes out. */
import type { ColumnType } from 'kysely'

/** An array must be given as JSON text: `pg` would send it as a PostgreSQL array. */
type Input = string | Readonly<Record<string, unknown>>

export type Json = ColumnType<unknown, Input, Input>
