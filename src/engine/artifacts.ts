/** Artifacts: what a run made for people, as it reported them. */
import { createHash, randomUUID } from 'node:crypto'
import { sql } from 'kysely'
import { Fault, type ReportArtifact } from '../contract/index.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'

export function artifactsEngine(room: Room) {
  return {
    /** The same artifact of a run, however often and by whichever of its executions it is reported, is one. */
    async report(caller: Caller, artifact: ReportArtifact): Promise<{ artifact_uid: string }> {
      if (caller.kind !== 'execution') throw new Fault('not_authorized', 'Only a running agent reports artifacts.')
      const { artifact_type, data } = artifact
      return room.database.kysely
        .insertInto('artifacts')
        .values({
          artifact_uid: randomUUID(),
          team_id: caller.team_id,
          run_id: caller.run_id,
          artifact_type,
          data: JSON.stringify(data),
          created_at: room.clock.now(),
          report_key: createHash('sha256')
            .update(ordered([artifact_type, data]))
            .digest('hex'),
        })
        .onConflict((one) =>
          one
            .columns(['run_id', 'report_key'])
            .where('report_key', 'is not', null)
            // Nothing changes, and the row that is there answers.
            .doUpdateSet({ report_key: sql`artifacts.report_key` }),
        )
        .returning('artifact_uid')
        .executeTakeFirstOrThrow()
    },
  }
}

/** JSON in which the order of names says nothing. */
const ordered = (value: unknown): string =>
  JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  )
