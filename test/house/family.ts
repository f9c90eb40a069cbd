/** An engine with a person and a fleet of runners, for tests of trees and the mailbox. Opened for each test. */
import { randomUUID } from 'node:crypto'
import { tmpdir } from 'node:os'
import pino from 'pino'
import { afterEach, beforeEach } from 'vitest'
import { CreateRun } from '../../src/contract/index.ts'
import { manualClock } from '../../src/db/clock.ts'
import { folderBlobs } from '../../src/engine/blobs.ts'
import type { Caller, UserCaller } from '../../src/engine/caller.ts'
import { type Engine, openEngine } from '../../src/engine/engine.ts'
import { freshDatabase } from './database.ts'

export type Runner = { run_id: string; caller: Caller; execution_id: string }

export type Opened = {
  database: Awaited<ReturnType<typeof freshDatabase>>
  clock: ReturnType<typeof manualClock>
  engine: Engine
  owner: UserCaller
}

/** `opened` is told what each test has to work with, before it begins. */
export function familyHouse(opened: (its: Opened) => void) {
  let its: Opened
  beforeEach(async () => {
    const database = await freshDatabase()
    const clock = manualClock()
    const engine = await openEngine({
      database,
      clock,
      blobs: folderBlobs(tmpdir()),
      log: pino({ level: 'silent' }),
      server_id: randomUUID(),
    })
    const owner = (await engine.access.prepare()).caller
    await engine.access.limitRuns(owner, 1000)
    its = { database, clock, engine, owner }
    opened(its)
  })
  afterEach(async () => {
    await its.engine.close()
    await its.database.close()
  })

  const limit = (limits: object) => its.database.kysely.updateTable('teams').set(limits).execute()
  const stateOf = async (run_id: string) => (await its.engine.runs.get(its.owner, run_id)).state
  const types = async (run_id: string) =>
    (await its.engine.events.list(its.owner, { run_ids: [run_id], since: 0, limit: 500 })).map(
      (event) => event.event_type,
    )

  /** Offers everything that is queued and begins it. */
  async function beginAll(): Promise<Runner[]> {
    its.clock.advance(1)
    const connection_id = await its.engine.workers.open(its.owner, 'w1')
    const offers = await its.engine.dispatch.offer([
      { connection_id, team_id: its.owner.team_id, worker_host: 'w1', free: 100 },
    ])
    const runners: Runner[] = []
    for (const { assignment } of offers) {
      const caller = await its.engine.access.identify({ token: assignment.env_vars.WARP_API_KEY ?? '' })
      if (!caller) throw new Error('unknown token')
      const { execution_id } = assignment
      await its.engine.executions.start(caller, execution_id)
      runners.push({ run_id: assignment.task_id, caller, execution_id })
    }
    return runners
  }

  async function parent(config: object = {}): Promise<Runner> {
    await its.engine.runs.create(its.owner, CreateRun.parse({ prompt: 'lead', config }), { source: 'API' })
    return (await beginAll())[0] as Runner
  }

  const spawn = (from: Runner, names: string[], key = 'call-1', more: object = {}) =>
    its.engine.trees.spawn(from.caller, {
      children: names.map((name) => ({ name, prompt: `do ${name}`, ...more })),
      key,
    })

  const finish = (runner: Runner, outcome: object = { outcome: 'SUCCEEDED' }) =>
    its.engine.executions.finish(runner.caller, runner.execution_id, { outcome: outcome as never, entries: 0 })

  const send = (from: Caller, to: string[], subject = 'hello', body = 'text', key?: string) =>
    its.engine.messages.send(from, { to, subject, body }, { key })

  /** Takes what waits and says that it was delivered. */
  async function deliver(runner: Runner) {
    const inbox = await its.engine.mail.inbox(runner.caller, runner.execution_id)
    if (inbox.text !== null) await its.engine.mail.delivered(runner.caller, runner.execution_id, inbox)
    return inbox
  }

  return { limit, stateOf, types, beginAll, parent, spawn, finish, send, deliver }
}
