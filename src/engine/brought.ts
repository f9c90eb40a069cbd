/**
 * What a run brings along for its sandbox besides its configuration. Most bring nothing, and many begin at once: those
 * that do are looked up together.
 */
import { type Kysely, sql } from 'kysely'
import type { Tables } from '../db/connect.ts'
import { arrayOf } from './array-of.ts'
import { batched } from './batch.ts'
import { hasSnapshot } from './handoff.ts'

export type Brought = {
  /** Attached files, their number. */
  attachments: number
  /** There is a snapshot to begin with. */
  restores: boolean
  /** As they came; null: none. */
  runtime_skills: string[] | null
  /** The execution was given secrets. */
  secrets: boolean
}

export type Bringing = (its: { run_id: string; execution_id: string }) => Promise<Brought>

/** Executions of one statement. */
const EXECUTIONS_MAX = 200

const NOTHING: Brought = { attachments: 0, restores: false, runtime_skills: null, secrets: false }

export const bringing = (db: Kysely<Tables>): Bringing =>
  batched({
    most: EXECUTIONS_MAX,
    keyOf: ({ execution_id }) => execution_id,
    run: async (all) => {
      const { rows } = await sql<Brought & { execution_id: string }>`
        select x.execution_id, ${hasSnapshot(sql`x.run_id`)} as restores,
          (select count(*)::int from uploads u where u.run_id = x.run_id and u.purpose = 'attachment'
            and u.confirmed_at is not null) as attachments,
          (select g.runtime_skills from run_givens g where g.run_id = x.run_id) as runtime_skills,
          exists (select from execution_secrets s where s.execution_id = x.execution_id) as secrets
        from unnest(${arrayOf('uuid', all, ({ run_id }) => run_id)},
          ${arrayOf('uuid', all, ({ execution_id }) => execution_id)}) as x(run_id, execution_id)`.execute(db)
      const found = new Map(rows.map((row) => [row.execution_id, row]))
      return all.map(({ execution_id }) => found.get(execution_id) ?? NOTHING)
    },
  })
