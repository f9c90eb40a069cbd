import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { hasArrived } from './arrival.ts'

let server: ReturnType<typeof createServer>
let accepted: Socket
let client: Socket

beforeEach(async () => {
  server = createServer({ allowHalfOpen: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const taken = once(server, 'connection')
  client = connect({ port: address.port, host: '127.0.0.1', allowHalfOpen: true })
  ;[accepted] = await taken
  accepted.on('error', () => {})
  client.on('error', () => {})
})
afterEach(() => {
  accepted.destroy()
  client.destroy()
  server.close()
})

/** As seen in the moment when the other end has closed. */
async function atItsClose(): Promise<boolean | null> {
  accepted.resume()
  await once(accepted, 'end')
  return hasArrived(accepted)
}

const on_linux = test.skipIf(process.platform !== 'linux')

on_linux('what was read before the other end closed has arrived', async () => {
  accepted.write('answer')
  await once(client, 'data')
  client.destroy()
  expect(await atItsClose()).toBe(true)
})

on_linux('what the other end had no room for when it closed has not arrived', async () => {
  client.pause()
  accepted.write(Buffer.alloc(32 * 1024 * 1024))
  client.end()
  expect(await atItsClose()).toBe(false)
})

on_linux('what was sent to an end that had closed before has not arrived', async () => {
  client.destroy()
  await once(client, 'close')
  accepted.write('answer')
  expect(await atItsClose()).not.toBe(true)
})
