/** How a server goes: what was asked is answered, nothing else is waited for. */
import { once } from 'node:events'
import { request } from 'node:http'
import { connect as dial, type Socket } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { type House, startHouse } from './house/house.ts'

/** From the call to the last connection's end, on a machine that does other work, too. */
const PROMPT_MS = 1_000

async function start(): Promise<House> {
  const house = await startHouse()
  onTestFinished(() => house.close())
  return house
}

async function open(house: House, text: string): Promise<Socket> {
  const socket = dial(house.port, '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.write(text)
  return socket
}

async function closed(house: House): Promise<number> {
  const began = performance.now()
  await house.server.close()
  return performance.now() - began
}

test('connections on which nothing was asked, or not all of it, do not hold it up', async () => {
  const house = await start()
  for (const text of ['', 'GET /api/v1/health HT', 'GET /api/v1/health HTTP/1.1\r\nhost: localhost\r\n']) {
    await open(house, text)
  }
  const used = await open(house, 'GET /api/v1/health HTTP/1.1\r\nhost: localhost\r\n\r\n')
  await once(used, 'data')
  await house.client.access.whoami()
  expect(await closed(house)).toBeLessThan(PROMPT_MS)
})

test('what was asked before is still answered', async () => {
  const house = await start()
  const body = JSON.stringify({ prompt: 'asked in time' })
  const asked = request({
    host: '127.0.0.1',
    port: house.port,
    method: 'POST',
    path: '/api/v1/agent/runs',
    headers: {
      authorization: `Bearer ${house.api_key}`,
      'content-type': 'application/json',
      'content-length': body.length,
      expect: '100-continue',
    },
  })
  asked.flushHeaders()
  await once(asked, 'continue')
  const going = closed(house)
  const answered = once(asked, 'response')
  asked.end(body)
  const [answer] = await answered
  expect(answer.statusCode).toBe(200)
  expect(await going).toBeLessThan(PROMPT_MS)
})

test('streams are told to come back, and a worker or a reader that takes nothing is left behind', async () => {
  const house = await start()
  const worker = await house.worker()
  const deaf = await house.worker({ worker_host: 'deaf' })
  deaf.socket.pause()
  const ask = (path: string) =>
    `GET /api/v1${path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${house.api_key}\r\n\r\n`
  const stream = await open(house, ask('/stream'))
  let told = ''
  stream.on('data', (bytes) => {
    told += String(bytes)
  })
  await expect.poll(() => told).toContain('hello')
  const stuck = await open(house, ask('/stream?since=0'))
  await once(stuck, 'readable')
  onTestFinished(() => void deaf.socket.resume())
  expect(await closed(house)).toBeLessThan(PROMPT_MS + 500)
  await expect.poll(() => told).toContain('connect again')
  expect(await worker.closed).toBe(1001)
})
