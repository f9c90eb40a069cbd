import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { NO_USAGE } from '../contract/index.ts'
import { connect } from './client.ts'
import { type Lifeline, openLifeline } from './lifeline.ts'

/** Nothing listens there. */
const NOWHERE = 'http://127.0.0.1:9'

let folder: string
let lifeline: Lifeline | undefined
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'baton-lifeline-'))
})
afterEach(() => {
  lifeline?.close()
  rmSync(folder, { recursive: true, force: true })
})

function open(server: string, alone_ms: number): string[] {
  const said: string[] = []
  lifeline = openLifeline({
    client: connect({ server, token: 'none', retries: 0 }),
    execution_id: '00000000-0000-4000-8000-000000000000',
    heartbeat_ms: 20,
    folder,
    alone_ms,
    usage: () => NO_USAGE,
    session_id: () => null,
    onCancel: () => {},
    onInbox: () => {},
    onTree: () => {},
    onShutdown: () => {},
    onChildren: () => {},
    onAttachments: () => {},
    onSuperseded: () => {},
    onAlone: (message) => said.push(message),
  })
  return said
}

const beats = async (number: number) => {
  for (let n = 0; n < number; n++) await lifeline?.ask(1000)
}

test('an execution without any server is given up when its time is over, and said so once', async () => {
  const said = open(NOWHERE, 200)
  await beats(1)
  expect(said).toEqual([])
  await expect.poll(() => said).toEqual([expect.stringMatching(/No server answers for 0.2 s/)])
  await beats(3)
  expect(said).toHaveLength(1)
})

test('an execution whose folder was removed with its server is given up at once', async () => {
  const said = open(NOWHERE, 3_600_000)
  await beats(3)
  expect(said).toEqual([])
  rmSync(folder, { recursive: true })
  await expect.poll(() => said).toEqual([expect.stringMatching(/folder of the execution is gone/)])
})

test('a server that answers, whatever it says, is a server', async () => {
  const server = createServer((_request, response) => response.writeHead(503).end('{}')).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  try {
    const said = open(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, 150)
    rmSync(folder, { recursive: true })
    const began = performance.now()
    while (performance.now() - began < 400) await beats(1)
    expect(said).toEqual([])
  } finally {
    server.closeAllConnections()
    server.close()
  }
})
