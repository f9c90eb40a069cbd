/** Artifacts: what a run made for people, as it reported them. */
import { randomUUID } from 'node:crypto'
import { Fault, type ReportArtifact } from '../contract/index.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'

export function artifactsEngine(room: Room) {
  return {
    async report(caller: Caller, artifact: ReportArtifact): Promise<{ artifact_uid: string }> {
      if (caller.kind !== 'execution') throw new Fault('not_authorized', 'Only a running agent reports artifacts.')
      const artifact_uid = randomUUID()
      await room.database.kysely
        .insertInto('artifacts')
        .values({
          artifact_uid,
          team_id: caller.team_id,
          run_id: caller.run_id,
          artifact_type: artifact.artifact_type,
          data: JSON.stringify(artifact.data),
          created_at: room.clock.now(),
        })
        .execute()
      return { artifact_uid }
    },
  }
}
