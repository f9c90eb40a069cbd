import { connect } from 'node:net'
import { expect, test } from 'vitest'
import { startHouse } from './house/house.ts'

test('a server closes at once though clients hold connections open on which nothing is asked', async () => {
  const house = await startHouse({ limits: { close_ms: 20_000 } })
  const closed: Promise<unknown>[] = []
  const open = async (text: string) => {
    const socket = connect(house.port, '127.0.0.1')
    closed.push(new Promise((resolve) => socket.once('close', resolve)))
    socket.on('error', () => {})
    await new Promise((resolve) => socket.once('connect', resolve))
    if (text === '') return
    socket.write(text)
    await new Promise((resolve) => socket.once('data', resolve))
  }
  await open('')
  await open('GET /api/v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n')
  await open(`GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${house.api_key}\r\n\r\n`)
  const asked_at = performance.now()
  await house.close()
  await Promise.all(closed)
  expect(performance.now() - asked_at).toBeLessThan(4000)
})
