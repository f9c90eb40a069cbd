/** What a caller is told when the server itself cannot: no database, no disk, a bug. */
import { connect } from 'node:net'
import { Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { pino } from 'pino'
import { expect, test } from 'vitest'
import { Problem } from '../src/contract/index.ts'
import { freshDatabase, startTestPostgres } from './house/database.ts'
import { type House, type HouseOptions, startHouse } from './house/house.ts'

async function inHouse(
  options: HouseOptions,
  work: (house: House, logged: () => Record<string, unknown>[]) => Promise<void>,
): Promise<void> {
  const lines: string[] = []
  const kept = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk))
      done()
    },
  })
  const house = await startHouse({ ...options, log: pino({ level: 'info' }, kept) })
  try {
    await work(house, () => lines.map((line) => JSON.parse(line)))
  } finally {
    await house.close()
  }
}

async function create(house: House): Promise<{ answer: Response; problem: Problem }> {
  const answer = await fetch(`${house.url}/api/v1/agent/runs`, {
    method: 'POST',
    body: '{"prompt":"x"}',
    headers: { authorization: `Bearer ${house.api_key}`, 'content-type': 'application/json' },
  })
  return { answer, problem: Problem.parse(await answer.json()) }
}

test('while the database is away every answer says so and when to come back, and the server lives on', async () => {
  const postgres = await startTestPostgres()
  const database = await freshDatabase({ server: postgres.connection })
  await inHouse({ database }, async (house) => {
    const worker = await house.worker()
    await postgres.close()
    const { answer, problem } = await create(house)
    expect(answer.status).toBe(503)
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(answer.headers.get('x-should-retry')).toBe('true')
    expect(problem).toMatchObject({ type: expect.stringMatching(/resource_unavailable$/), retryable: true })
    expect(problem.error).toMatch(/cannot reach its database/)
    const health = await fetch(`${house.url}/api/v1/health`)
    expect(health.status).toBe(503)
    expect(await health.json()).toMatchObject({ status: 'unavailable', database: 'unavailable' })
    worker.vanish()
  })
}, 30_000)

test('a full disk is told as such', async () => {
  await inHouse({}, async (house) => {
    await house.database.pool.query(`create function full_disk() returns trigger language plpgsql as
      $$ begin raise exception 'could not extend file "base/5/1"' using errcode = '53100'; end $$`)
    await house.database.pool.query(
      'create trigger full_disk before insert on runs for each row execute function full_disk()',
    )
    const { answer, problem } = await create(house)
    expect(answer.status).toBe(507)
    expect(problem.error).toMatch(/disk is full/)
    expect(problem.error).not.toContain('base/5')
  })
})

test('a bug is logged once with its stack, and shown only by its trace', async () => {
  await inHouse({}, async (house, logged) => {
    await house.database.pool.query('alter table runs rename column title to renamed')
    const { answer, problem } = await create(house)
    expect(answer.status).toBe(500)
    expect(problem).toMatchObject({
      type: expect.stringMatching(/internal_error$/),
      trace_id: answer.headers.get('x-trace-id'),
    })
    expect(JSON.stringify(problem)).not.toMatch(/renamed|column|insert |\.ts/)
    const bugs = logged().filter((line) => line.msg === 'request.bug')
    expect(bugs).toHaveLength(1)
    expect(bugs[0]).toMatchObject({ trace_id: problem.trace_id, err: { stack: expect.stringContaining('.ts:') } })
  })
})

test('no key, token or cookie is ever logged', async () => {
  await inHouse({}, async (house, logged) => {
    await house.client.runs.create({ body: { prompt: 'x' } })
    await fetch(`${house.url}/api/v1/whoami?api_key=wk-1.${'a'.repeat(64)}`, {
      headers: { authorization: `Bearer wk-1.${'b'.repeat(64)}`, cookie: 'baton_session=hidden' },
    })
    await house.worker()
    expect(JSON.stringify(logged())).not.toMatch(/wk-1\.|bx-1\.|hidden/)
    expect(logged().some((line) => line.msg === 'request.refused')).toBe(true)
  })
})

test("the caller's own trace is kept", async () => {
  await inHouse({}, async (house) => {
    const trace = 'a'.repeat(32)
    const answer = await fetch(`${house.url}/api/v1/whoami`, {
      headers: { traceparent: `00-${trace}-${'b'.repeat(16)}-01` },
    })
    expect(answer.headers.get('x-trace-id')).toBe(trace)
  })
})

test('what HTTP itself refuses is a problem as every other, and leaves no worker behind', async () => {
  await inHouse({}, async (house, logged) => {
    /** What comes back for these lines, to the end of the connection. */
    const raw = async (...lines: string[]) => {
      const [first, ...others] = lines
      const head = [first, 'Host: 127.0.0.1', `Authorization: Bearer ${house.api_key}`, ...others, '', '']
      const socket = connect(house.server.port, '127.0.0.1', () => socket.write(head.join('\r\n')))
      const [said = '', body = ''] = (await text(socket)).split('\r\n\r\n')
      const { status, instance } = Problem.parse(JSON.parse(body))
      expect(said).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
      expect(said).toMatch(/content-type: application\/problem\+json/i)
      return { status, instance, head: said.toLowerCase() }
    }
    const path = '/api/v1/selfhosted/worker/ws'
    const upgrade = ['Connection: Upgrade', 'Upgrade: websocket']
    const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='
    const get = `GET ${path}?worker_id=w HTTP/1.1`
    expect(await raw('GET /api/v1/health HTTP/1.1', 'Expect: magic')).toMatchObject({ status: 417 })
    expect(await raw('CONNECT elsewhere:443 HTTP/1.1')).toMatchObject({ status: 405 })
    const plain = await raw(get, 'Connection: close')
    expect(plain).toMatchObject({ status: 426, instance: path, head: expect.stringContaining('upgrade: websocket') })
    expect(await raw(get, ...upgrade, 'Sec-WebSocket-Version: 13')).toMatchObject({ status: 400, instance: path })
    const old = await raw(get, ...upgrade, key, 'Sec-WebSocket-Version: 7')
    expect(old).toMatchObject({ status: 400, head: expect.stringContaining('sec-websocket-version: 13') })
    const post = await raw(get.replace('GET', 'POST'), ...upgrade, key, 'Sec-WebSocket-Version: 13')
    expect(post).toMatchObject({ status: 405, head: expect.stringContaining('allow: get') })
    for (const [address, status] of [
      ['/nowhere', 404],
      ['http://[', 400],
    ] as const)
      expect(await raw(`GET ${address} HTTP/1.1`, ...upgrade, key, 'Sec-WebSocket-Version: 13')).toMatchObject({
        status,
        instance: address,
      })
    expect(logged().filter((line) => line.msg === 'request.bug')).toEqual([])
    await expect.poll(async () => (await house.client.workers.list()).workers).toEqual([])
  })
})
