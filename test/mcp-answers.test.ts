/** What becomes of the answers of `/mcp`: of calls that are given up, and of connections that are closed. */
import { randomUUID } from 'node:crypto'
import { Agent as Connections, request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { sql } from 'kysely'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type FreshDatabase, freshDatabase } from './house/database.ts'
import { type House, startHouse } from './house/house.ts'
import { takeAgent } from './house/mcp-agent.ts'
import { startServerProcess } from './house/processes.ts'
import type { ScriptedWorker } from './house/worker.ts'

let database: FreshDatabase
let house: House
let worker: ScriptedWorker

beforeAll(async () => {
  database = await freshDatabase()
  house = await startHouse({ database, max_concurrent_runs: 500 })
  worker = await house.worker({ capacity: 500 })
})
afterAll(async () => {
  await house.close()
  await database.close()
})

/** A parent and one child of it, both at work. */
async function startPair() {
  await house.client.runs.create({ body: { prompt: 'lead' } })
  const parent = await takeAgent(house, worker)
  await parent.call('run_agents', { agent_run_configs: [{ name: 'child', prompt: 'do it', harness_type: 'claude' }] })
  return { parent, child: await takeAgent(house, worker) }
}

test('an agent that gives its call up loses nothing, whenever it does', async () => {
  const { parent, child } = await startPair()
  const heard = new Set<string>()
  const note = (text: string) => {
    for (const [word] of text.matchAll(/letter-\d+/g)) heard.add(word)
  }
  /** What counts as given, and was not heard. */
  const unheard = async () => {
    const { kysely } = house.database
    const given = await kysely.selectFrom('givings').select('text').where('run_id', '=', parent.run_id).execute()
    const words = given.flatMap(({ text }) => [...text.matchAll(/letter-\d+/g)].map(([word]) => word))
    return words.filter((word) => !heard.has(word))
  }
  /** Over Node's own HTTP, where it is known whether a byte of the answer was read. */
  const ask = (id: number, signal: AbortSignal) =>
    new Promise<void>((resolve) => {
      const url = `${house.url}/mcp?hold_ms=300`
      const headers = {
        authorization: `Bearer ${parent.token}`,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'mcp-protocol-version': '2025-11-25',
      }
      const asked = request(url, { method: 'POST', signal, headers }, (response) => {
        let text = ''
        response.on('data', (piece) => {
          text += piece
          note(text)
        })
        response.on('error', () => {}).on('close', resolve)
      })
      asked.on('error', () => resolve())
      const params = { name: 'wait_for_events', arguments: {} }
      asked.end(JSON.stringify({ jsonrpc: '2.0', id, method: 'tools/call', params }))
    })
  for (let n = 0; n < 18; n++) {
    const call = new AbortController()
    const asked = ask(1000 + n, call.signal)
    await house.client.messages.send({
      body: { to: [parent.run_id], sender_run_id: child.run_id, subject: 's', body: `letter-${n}` },
    })
    await new Promise((resolve) => setTimeout(resolve, n % 9))
    call.abort()
    await asked
    // No agent calls again before its model has said so.
    await new Promise((resolve) => setTimeout(resolve, 400))
    await expect.poll(unheard).toEqual([])
  }
  for (let id = 2000; id < 2010 && heard.size < 18; id++) await ask(id, AbortSignal.timeout(10_000))
  expect(heard.size).toBe(18)
})

test.each(['goes on', 'is killed'])(
  'what was in a lost answer is not taken as read because the database was away when it was lost: the server %s',
  async (how) => {
    const { parent, child } = await startPair()
    const { kysely } = house.database
    const server =
      how === 'goes on'
        ? null
        : await startServerProcess({ connection: database.connection, port: 0, blobs_dir: tmpdir() })
    // Nothing leaves the table of what was given; a sequence counts the tries, whatever becomes of their transactions.
    await sql`create sequence if not exists refusals`.execute(kysely)
    await sql`alter sequence refusals restart`.execute(kysely)
    await sql`create or replace function refuse() returns trigger language plpgsql as
    $$ begin perform nextval('refusals'); raise exception 'not now'; end $$`.execute(kysely)
    await sql`create trigger refuse before delete on givings for each row execute function refuse()`.execute(kysely)
    try {
      const { port } = new URL(server?.url ?? house.url)
      const socket = connect(Number(port), '127.0.0.1').pause()
      const params = { name: 'wait_for_events', arguments: {} }
      const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params })
      socket.write(
        `POST /mcp?hold_ms=30000 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${parent.token}\r\n` +
          'Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n' +
          `MCP-Protocol-Version: 2025-11-25\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      )
      const given = () => kysely.selectFrom('givings').select('text').where('run_id', '=', parent.run_id).execute()
      await house.client.messages.send({
        body: { to: [parent.run_id], sender_run_id: child.run_id, subject: 's', body: 'the one letter' },
      })
      await expect.poll(given, { timeout: 10_000 }).toHaveLength(1)
      socket.resetAndDestroy()
      const refused = async () =>
        (await sql<{ tried: boolean }>`select is_called as tried from refusals`.execute(kysely)).rows
      await expect.poll(refused, { timeout: 10_000 }).toEqual([{ tried: true }])
    } finally {
      await server?.kill()
      await sql`drop trigger refuse on givings`.execute(kysely)
    }
    await parent.call('list_agents')
    const heard = async () => (await parent.call('wait_for_events')).text
    // Of what a server gave that was killed nobody knows at once that it never left.
    await expect.poll(heard, { timeout: 15_000 }).toContain('the one letter')
    expect(await heard()).not.toContain('the one letter')
  },
)

/** One call over a connection of its own, which is closed as soon as the whole answer is read, without a word of that. */
function waitAndClose(token: string): Promise<string> {
  const { port } = new URL(house.url)
  const params = { name: 'wait_for_events', arguments: {} }
  const body = JSON.stringify({ jsonrpc: '2.0', id: randomUUID(), method: 'tools/call', params })
  const socket = connect(Number(port), '127.0.0.1')
  socket.write(
    `POST /mcp?hold_ms=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${token}\r\n` +
      'Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n' +
      `MCP-Protocol-Version: 2025-11-25\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
  return new Promise((resolve, reject) => {
    let text = ''
    socket.on('error', reject)
    socket.on('data', (bytes) => {
      text += bytes
      const [head = '', said = ''] = text.split('\r\n\r\n', 2)
      const length = /content-length: (\d+)/i.exec(head)?.[1]
      const whole = length === undefined ? text.endsWith('\r\n0\r\n\r\n') : Buffer.byteLength(said) >= Number(length)
      if (!whole) return
      socket.destroy()
      resolve(said)
    })
  })
}

test('who reads an answer and closes the connection at once hears each letter once', async () => {
  const { parent, child } = await startPair()
  const heard: string[] = []
  for (const message of ['letter one', 'letter two', 'letter three']) {
    await child.call('send_message_to_agent', { addresses: ['parent'], subject: 's', message })
    heard.push(await waitAndClose(parent.token))
    // Its model thinks for longer than an answer that was not read is waited for.
    await new Promise((resolve) => setTimeout(resolve, 500))
  }
  heard.push(await waitAndClose(parent.token))
  expect(heard.map((text) => /letter \w+/.exec(text)?.[0])).toEqual([
    'letter one',
    'letter two',
    'letter three',
    undefined,
  ])
})

/** Requests of one connection, which is kept. */
function connection(token: string) {
  const agent = new Connections({ keepAlive: true, maxSockets: 1 })
  const post = (message: object) =>
    new Promise<string>((resolve, reject) => {
      const headers = {
        authorization: `Bearer ${token}`,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'mcp-protocol-version': '2025-11-25',
      }
      const asked = request(`${house.url}/mcp?hold_ms=0`, { method: 'POST', agent, headers }, async (response) => {
        resolve((await response.toArray()).join(''))
      })
      asked.once('error', reject)
      asked.end(JSON.stringify({ jsonrpc: '2.0', ...message }))
    })
  return {
    wait: (id: number) => post({ id, method: 'tools/call', params: { name: 'wait_for_events', arguments: {} } }),
    giveUp: (requestId: number) => post({ method: 'notifications/cancelled', params: { requestId } }),
    list: (id: number) => post({ id, method: 'tools/list', params: {} }),
    close: () => agent.destroy(),
  }
}

test('a call that is given up as its answer comes is answered again', async () => {
  const { parent, child } = await startPair()
  const [one, other] = [connection(parent.token), connection(parent.token)]
  await child.call('send_message_to_agent', { addresses: ['parent'], subject: 's', message: 'crossed' })
  expect(await one.wait(1)).toMatch(/crossed/)
  await other.giveUp(1)
  await expect.poll(() => one.wait(2)).toMatch(/crossed/)
  expect(await one.wait(3)).not.toMatch(/crossed/)
  one.close()
  other.close()
})

test.each(['over the same connection', 'after its connection was used again'])(
  'a call that is given up %s had its answer read, which is not given again',
  async (how) => {
    const { parent, child } = await startPair()
    const [one, other] = [connection(parent.token), connection(parent.token)]
    const letters = ['letter one', 'letter two', 'letter three']
    const heard: string[] = []
    for (const [id, message] of letters.entries()) {
      await child.call('send_message_to_agent', { addresses: ['parent'], subject: message, message: 'm' })
      heard.push(await one.wait(id))
      if (how !== 'over the same connection') await one.list(100 + id)
      await (how === 'over the same connection' ? one : other).giveUp(id)
    }
    expect(await other.wait(99)).toMatch(/nothing_yet/)
    expect(heard.map((text) => letters.filter((letter) => text.includes(letter)))).toEqual(letters.map((one) => [one]))
    one.close()
    other.close()
  },
)
