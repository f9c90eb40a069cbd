/**
 * The sweep: what nobody did in time. Due rows are claimed by their guarded updates, so that any number of
 * servers may sweep.
 *
 * Leases are judged by the database's time. A server that just started gives every runner one lease's time to be heard
 * before it believes any of them dead: it may be the server that was away.
 */
import type { Room } from './engine.ts'
import { federationEngine } from './federation.ts'
import { givings } from './givings.ts'
import { handoffEngine } from './handoff.ts'
import { KEY_MS } from './idempotency.ts'
import { forgetFirings } from './schedule-firing.ts'
import { secretsEngine } from './secrets.ts'
import { lost, settle } from './settle.ts'
import type { teamDeletion } from './team-deletion.ts'
import { uploadsEngine } from './uploads.ts'
import { workersEngine } from './workers.ts'

/** Rows of one kind that one sweep takes. */
const BATCH = 200
/** A cancel that neither runner nor worker carried out is carried out here after this, in milliseconds. */
const CANCEL_OVERDUE_MS = 15_000
/** Old keys, sessions and uploads are looked for this often, in milliseconds. */
const TIDY_MS = 10 * 60_000

export function sweepEngine(room: Room, { deletion }: { deletion: ReturnType<typeof teamDeletion> }) {
  const { clock, limits, bell } = room
  const db = room.database.kysely
  const workers = workersEngine(room)
  const uploads = uploadsEngine(room)
  const handoff = handoffEngine(room, uploads)
  const mail = givings(room)
  const secrets = secretsEngine(room)
  const federation = federationEngine(room)
  const started = clock.now()
  let tidied = started

  async function expired(state: 'offered' | 'claimed' | 'running') {
    return db
      .selectFrom('executions')
      .innerJoin('runs', 'runs.execution_id', 'executions.execution_id')
      .select(['executions.execution_id', 'executions.run_id', 'executions.worker_host', 'runs.execution_location'])
      .where('executions.state', '=', state)
      .where('executions.expires_at', '<', clock.now())
      .orderBy('executions.expires_at')
      .limit(BATCH)
      .execute()
  }

  type Due = { run_id: string; execution_id: string }

  /** A heartbeat that came meanwhile keeps what was judged by `overdue`. */
  async function end(due: Due, reason: string, message: string, overdue?: Date): Promise<void> {
    const run = await settle(room, due.run_id, due.execution_id, {
      outcome: lost(reason, message),
      unsaid: true,
      overdue,
    })
    if (run) bell.ring('control', { execution_id: due.execution_id })
  }

  async function cancelOverdue(): Promise<number> {
    const due = new Date(clock.now().getTime() - CANCEL_OVERDUE_MS)
    const runs = await db
      .selectFrom('runs')
      .select(['run_id', 'execution_id'])
      .where('state', 'in', ['INPROGRESS', 'BLOCKED'])
      .where('cancel_requested_at', '<', due)
      .limit(BATCH)
      .execute()
    for (const { run_id, execution_id } of runs) {
      if (execution_id) await end({ run_id, execution_id }, 'cancelled', 'Cancelled.')
    }
    return runs.length
  }

  async function tidy(): Promise<void> {
    tidied = clock.now()
    await db
      .deleteFrom('idempotency_keys')
      .where('created_at', '<', new Date(tidied.getTime() - KEY_MS))
      .execute()
    await db.deleteFrom('sessions').where('expires_at', '<', tidied).execute()
    await db.deleteFrom('login_codes').where('expires_at', '<', tidied).execute()
    await workers.forget()
    await handoff.sweep()
    await uploads.sweep()
    await forgetFirings(room)
    await deletion.sweep()
    await secrets.sweep()
    await federation.sweep()
  }

  return {
    /** Does everything that is due; answers how much that was. */
    async run(): Promise<{ swept: number }> {
      let swept = await cancelOverdue()
      for (const { execution_id, run_id } of await expired('offered')) {
        await workers.release(run_id, execution_id)
        swept += 1
      }
      for (const due of await expired('claimed')) {
        const { worker_host } = due
        const where = worker_host === null ? 'The runner' : `Worker ${worker_host} took this run, but its runner`
        await end(due, 'not_begun', `${where} did not begin within ${limits.begin_ms / 1000} s.`, clock.now())
        swept += 1
      }
      if (clock.now().getTime() - started.getTime() >= limits.lease_ms) {
        for (const due of await expired('running')) {
          await end(
            due,
            'lease_lapsed',
            `The runner was not heard of for ${limits.lease_ms / 1000} s; its machine or worker may have gone.`,
            clock.now(),
          )
          swept += 1
        }
      }
      swept += await mail.settle(null)
      swept += await mail.giveBackUnsent()
      if (swept > 0) bell.ring('queue', {})
      if (clock.now().getTime() - tidied.getTime() >= TIDY_MS) await tidy()
      return { swept }
    },
  }
}
