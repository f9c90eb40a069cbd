/** A key that was revoked opens nothing a second later, on any server, and what it had opened has ended. */
import { once } from 'node:events'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import packageFile from '../package.json' with { type: 'json' }
import { API_PREFIX, WORKER_SOCKET_PATH } from '../src/contract/index.ts'
import { hashOf } from '../src/engine/tokens.ts'
import { type House, startHouse } from './house/house.ts'

const REVOKED_MS = 1_000

async function start(): Promise<House> {
  const house = await startHouse()
  onTestFinished(() => house.close())
  return house
}

/** Resolves when the stream is open; `ended` resolves when the server has ended it. */
async function follow(root: string, path: string, headers: Record<string, string>) {
  const response = await fetch(root + API_PREFIX + path, { headers })
  expect(response.status).toBe(200)
  const reader = response.body?.getReader()
  await reader?.read()
  const drain = async () => {
    while (reader && !(await reader.read()).done);
  }
  return { ended: drain(), cut: () => reader?.cancel() }
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

async function revoke(house: House, api_key: string): Promise<void> {
  await house.database.kysely
    .updateTable('api_keys')
    .set({ revoked_at: new Date(0) })
    .where('hash', '=', hashOf(api_key))
    .execute()
}

test("a key's streams and sockets end on every server, other keys' go on, and its requests are refused", async () => {
  const house = await start()
  const other = await house.sibling()
  const { createKey } = house.server.engine.access
  const { api_key } = await createKey(house.owner, { name: 'brief', scope: 'personal' })
  const worker = await house.worker({ api_key, worker_host: 'brief' })
  const kept = await house.worker({ worker_host: 'kept' })
  const servers = [house.url, other.server.url]
  const lines = await Promise.all(
    servers.flatMap((root) => ['/stream', '/agent/events/stream'].map((path) => follow(root, path, bearer(api_key)))),
  )
  let ended = 0
  for (const line of lines) void line.ended.then(() => ended++)
  const mine = await follow(house.url, '/stream', bearer(house.api_key))
  // Both have just been seen with the key, so that it is remembered.
  for (const root of servers) expect((await fetch(`${root}${API_PREFIX}/whoami`, { headers: bearer(api_key) })).ok)
  await revoke(house, api_key)
  const began = performance.now()
  await Promise.all([...lines.map((line) => line.ended), worker.closed])
  await expect
    .poll(
      async () => {
        const asked = servers.map((root) => fetch(`${root}${API_PREFIX}/whoami`, { headers: bearer(api_key) }))
        return (await Promise.all(asked)).map(({ status }) => status)
      },
      { interval: 20 },
    )
    .toEqual([401, 401])
  expect(performance.now() - began).toBeLessThan(REVOKED_MS)
  expect(await worker.closed).toBe(1008)
  expect(ended).toBe(4)
  expect(kept.socket.readyState).toBe(kept.socket.OPEN)
  expect(await Promise.race([mine.ended.then(() => 'ended'), house.client.access.whoami()])).not.toBe('ended')
  await mine.cut()
})

test("a worker's connection ends with its person's role, and opens again as what that person is now", async () => {
  const house = await start()
  const [ann, bob, boss] = await Promise.all(
    (['member', 'member', 'admin'] as const).map((role, at) => house.addMember(`person ${at}`, role)),
  )
  if (!ann || !bob || !boss) throw new Error('nobody')
  const { api_key: of_team } = await house.server.engine.access.createKey(boss.caller, { name: 'w', scope: 'worker' })
  const open = (worker_host: string, api_key: string) => house.worker({ worker_host, api_key })
  const viewed = await open('viewed', ann.api_key)
  const kept = await open('kept', bob.api_key)
  const [team, own] = [await open('team', of_team), await open('own', boss.api_key)]
  const { changeRole } = house.client.teams
  const began = performance.now()
  await changeRole({ params: { user_id: ann.caller.user_id }, body: { role: 'viewer' } })
  await changeRole({ params: { user_id: boss.caller.user_id }, body: { role: 'member' } })
  expect(await Promise.all([viewed.closed, own.closed, team.closed])).toEqual([1012, 1012, 1012])
  expect(performance.now() - began).toBeLessThan(REVOKED_MS)
  expect(kept.socket.readyState).toBe(kept.socket.OPEN)
  await expect.poll(() => open('viewed', ann.api_key).then(() => 'open', String), { interval: 50 }).toContain('403')
  // Who is no admin any more works on nobody else's personal runs, with whatever key.
  await expect.poll(() => boss.client.access.whoami().then(({ role }) => role), { interval: 50 }).toBe('member')
  const after = [await open('own', boss.api_key), await open('team', of_team)]
  const { run_id } = await bob.client.runs.create({ body: { prompt: 'mine', team: false } })
  expect((await kept.next()).run_id).toBe(run_id)
  for (const [at, worker_host] of ['own', 'team'].entries()) {
    const body = { prompt: 'mine', team: false, config: { worker_host } }
    const theirs = await bob.client.runs.create({ body })
    const mine = await boss.client.runs.create({ body })
    expect((await after[at]?.next())?.run_id).toBe(mine.run_id)
    expect(await bob.client.runs.get({ params: { run_id: theirs.run_id } })).toMatchObject({ state: 'QUEUED' })
  }
})

test("a browser's stream ends when its session was signed out elsewhere", async () => {
  const house = await start()
  const headers = { 'content-type': 'application/json' }
  const body = JSON.stringify({ api_key: house.api_key })
  const opened = await fetch(`${house.url}${API_PREFIX}/session`, { method: 'POST', headers, body })
  const cookie = opened.headers.get('set-cookie')?.split(';')[0] ?? ''
  const line = await follow(house.url, '/stream', { cookie, 'sec-fetch-site': 'same-origin' })
  const other = await house.sibling()
  const own = { cookie, origin: other.server.url }
  expect((await fetch(`${other.server.url}${API_PREFIX}/session`, { method: 'DELETE', headers: own })).ok).toBe(true)
  const began = performance.now()
  await line.ended
  expect(performance.now() - began).toBeLessThan(REVOKED_MS)
})

test("an execution's streams end with it, but for the one that its own runner follows", async () => {
  const house = await start()
  const worker = await house.worker()
  await house.client.runs.create({ body: { prompt: 'end' } })
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  const headers = bearer(piece.assignment.env_vars.WARP_API_KEY ?? '')
  const events = await follow(house.url, '/agent/events/stream', headers)
  // A stream of the runner says itself why it ends.
  const control = await follow(house.url, `/executions/${piece.execution_id}/control`, headers)
  await piece.finish()
  const began = performance.now()
  await events.ended
  expect(performance.now() - began).toBeLessThan(REVOKED_MS)
  const asked = fetch(`${house.url}${API_PREFIX}/health`).then(() => 'goes on')
  expect(await Promise.race([control.ended.then(() => 'ended'), asked])).toBe('goes on')
  await control.cut()
})

test('a worker is told the version of the server that it connects to', async () => {
  const house = await start()
  const url = `${house.url.replace('http', 'ws')}${WORKER_SOCKET_PATH}?worker_id=w`
  const socket = new WebSocket(url, { headers: bearer(house.api_key) })
  const [[answer]] = await Promise.all([once(socket, 'upgrade'), once(socket, 'open')])
  expect(answer.headers['x-baton-version']).toBe(packageFile.version)
  socket.close()
  await once(socket, 'close')
  const health = await fetch(`${house.url}${API_PREFIX}/health`)
  expect(await health.json()).toMatchObject({ version: packageFile.version })
  expect(health.headers.get('x-baton-version')).toBe(packageFile.version)
})
