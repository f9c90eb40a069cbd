/** A server that is killed while it locks all secrets with another master key: each opens, and the rest can be done. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'kysely'
import { expect, onTestFinished, test } from 'vitest'
import { type Client, connect } from '../src/sdk/client.ts'
import { freshDatabase } from './house/database.ts'
import { type ServerProcess, startServerProcess, until } from './house/processes.ts'
import { openScriptedWorker } from './house/worker.ts'

const SECRETS = 24

test('a rotation that is broken off by kill -9, twice, leaves all readable, and is finished by the next', async () => {
  const database = await freshDatabase()
  const folder = await mkdtemp(join(tmpdir(), 'baton-rotation-'))
  const key_file = join(folder, 'keys')
  const now: { server?: ServerProcess } = {}
  let api_key = ''
  const start = async (): Promise<Client> => {
    const server = await startServerProcess({ connection: database.connection, port: 0, blobs_dir: folder, key_file })
    now.server = server
    api_key ||= server.api_key ?? ''
    return connect({ server: server.url, token: api_key, retries: 0 })
  }
  onTestFinished(async () => {
    await now.server?.kill()
    await database.close()
    await rm(folder, { recursive: true, force: true })
  })

  const keysIn = async () => (await readFile(key_file, 'utf8')).split('\n').filter((line) => /^[^#]/.test(line))
  /** How many values are locked with each of the keys. */
  const locked = async () => {
    const { rows } = await sql<{ count: number }>`
      select count(*)::int as count from secret_versions group by key_id`.execute(database.kysely)
    return rows.map(({ count }) => count)
  }
  /** Begins a rotation, which comes to a row that is held, and kills the server there. */
  async function breakOff(client: Client, make: boolean, held_uid: string): Promise<void> {
    await database.kysely.transaction().execute(async (holding) => {
      await holding
        .selectFrom('secret_versions')
        .select('version')
        .where('secret_uid', '=', held_uid)
        .forUpdate()
        .execute()
      const rotating = client.secrets.rotate({ body: { make } }).then(
        () => 'done',
        () => 'broken off',
      )
      await until('the rotation waits for the row', async () => {
        const { rows } = await sql`select 1 from pg_stat_activity where datname = current_database()
          and wait_event_type = 'Lock' and query like 'update "secret_versions"%'`.execute(database.kysely)
        return rows.length > 0
      })
      await now.server?.kill()
      expect(await rotating).toBe('broken off')
    })
  }
  /** What a run is given, by a server that is started for it. */
  async function given(client: Client): Promise<Record<string, string> | undefined> {
    const { secrets } = await client.secrets.list({})
    expect(secrets.every(({ available }) => available)).toBe(true)
    const worker = await openScriptedWorker({ url: now.server?.url ?? '', api_key })
    const { run_id } = await client.runs.create({ body: { prompt: 'work' } })
    const piece = await worker.next()
    piece.claim()
    const assignment = await piece.start()
    await piece.finish()
    await worker.close()
    expect(assignment.run_id).toBe(run_id)
    return assignment.secrets?.variables
  }

  let client = await start()
  const values: Record<string, string> = {}
  const uids: string[] = []
  for (let at = 0; at < SECRETS; at++) {
    const [name, value] = [`SECRET_${at}`, randomBytes(18).toString('base64url')]
    values[name] = value
    uids.push((await client.secrets.create({ body: { name, value } })).uid)
  }
  expect(await given(client)).toEqual(values)
  const [old] = await keysIn()
  for (const [at, make] of [
    [8, true],
    [16, false],
  ] as const) {
    await breakOff(client, make, uids[at] ?? '')
    expect(await locked()).toHaveLength(2)
    client = await start()
    expect(await given(client)).toEqual(values)
  }
  const done = await client.secrets.rotate({ body: { make: false } })
  expect(done.rewrapped).toBeGreaterThan(0)
  expect(done.unused_keys).toHaveLength(1)
  expect(await locked()).toEqual([SECRETS])
  // The old key opens nothing that is needed any more.
  const keys = await keysIn()
  expect(keys).toHaveLength(2)
  await writeFile(key_file, `${keys.filter((key) => key !== old).join('\n')}\n`)
  await now.server?.kill()
  client = await start()
  expect(await given(client)).toEqual(values)
})
