/** Artifacts: what a run made for people, as it reported them. */
import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import { Fault } from '../contract/index.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'

const WebAddress = z.url({ protocol: /^https?$/ }).max(2048)

/** What an agent may report by itself. */
export const Reported = z.discriminatedUnion('artifact_type', [
  z.object({
    artifact_type: z.literal('PULL_REQUEST'),
    data: z.object({ url: WebAddress, branch: z.string().min(1).max(256) }),
  }),
  z.object({
    artifact_type: z.literal('EXTERNAL_REFERENCE'),
    data: z.object({
      reference_type: z.string().min(1).max(256),
      url: WebAddress,
      title: z.string().max(512).optional(),
      metadata: z.record(z.string(), z.unknown()).optional(),
    }),
  }),
])

export function artifactsEngine(room: Room) {
  return {
    async report(caller: Caller, artifact: z.infer<typeof Reported>): Promise<{ artifact_uid: string }> {
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
