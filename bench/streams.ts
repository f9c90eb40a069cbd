/**
 * Fan-out: EVENTS_A_SECOND made by creating runs, read by STREAMS open event streams. Each stream must get every
 * event once, in order. The streams are plain sockets in this process, so that reading them does not become what is
 * measured.
 */
import { connect as openSocket, type Socket } from 'node:net'
import type { Client } from '../src/sdk/client.ts'
import { pause } from '../src/sdk/client.ts'
import { type Figure, mebibytes, median, ms, quantile } from './figures.ts'
import { residentBytes, up } from './house.ts'

const STREAMS = 500
const EVENTS_A_SECOND = 200
const SECONDS = 10
const P99_MS_MAX = 250
const BYTES_MAX = 250 * 1024 * 1024

export async function streams(): Promise<Figure[]> {
  const baton = await up(['--no-worker'])
  const readers: Reader[] = []
  try {
    const url = new URL(baton.url)
    for (let n = 0; n < STREAMS; n++) readers.push(await openReader(url, baton.api_key))
    const made = await makeEvents(baton.client)
    await until(() => readers.every((reader) => reader.seen.length >= made), 10_000)
    const delays = readers.flatMap((reader) => reader.delays)
    const complete = readers.every(
      (reader) => reader.seen.length === made && reader.seen.every((sequence, at) => sequence === at + 1),
    )
    const resident = await residentBytes(baton.pid)
    const p99 = quantile(delays, 0.99)
    return [
      {
        name: `${made} events at ${EVENTS_A_SECOND}/s to ${STREAMS} streams: each once, in order`,
        value: complete ? 'yes' : 'no',
        promise: 'no loss',
        held: complete,
      },
      { name: 'delay from event to reader, p50', value: ms(median(delays)) },
      {
        name: 'delay from event to reader, p99',
        value: ms(p99),
        promise: `< ${P99_MS_MAX} ms`,
        held: p99 < P99_MS_MAX,
      },
      {
        name: `memory of the server with ${STREAMS} streams`,
        value: mebibytes(resident),
        promise: '< 250 MB',
        held: resident < BYTES_MAX,
      },
    ]
  } finally {
    for (const reader of readers) reader.socket.destroy()
    await baton.close()
  }
}

/** Creates runs at a steady rate; a run that nobody takes is one event. */
async function makeEvents(client: Client): Promise<number> {
  const total = EVENTS_A_SECOND * SECONDS
  const began = performance.now()
  const asked: Promise<unknown>[] = []
  for (let n = 0; n < total; n++) {
    const due = began + (n * 1000) / EVENTS_A_SECOND
    if (due > performance.now()) await pause(due - performance.now())
    asked.push(client.runs.create({ body: { prompt: 'true', config: { harness: { type: 'command' } } } }))
  }
  await Promise.all(asked)
  return total
}

type Reader = { socket: Socket; seen: number[]; delays: number[] }

function openReader(url: URL, api_key: string): Promise<Reader> {
  return new Promise((resolve, reject) => {
    const socket = openSocket(Number(url.port), url.hostname)
    const reader: Reader = { socket, seen: [], delays: [] }
    let rest = ''
    socket.once('error', reject)
    socket.setEncoding('utf8')
    socket.write(
      `GET /api/v1/agent/events/stream?since=0 HTTP/1.1\r\nHost: ${url.host}\r\nAuthorization: Bearer ${api_key}\r\nAccept: text/event-stream\r\n\r\n`,
    )
    socket.once('data', (head: string) => (head.startsWith('HTTP/1.1 200') ? resolve(reader) : reject(new Error(head))))
    socket.on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      const now = performance.timeOrigin + performance.now()
      for (const line of lines) {
        const sequence = /"sequence":(\d+)/.exec(line)?.[1]
        const occurred_at = /"occurred_at":"([^"]+)"/.exec(line)?.[1]
        if (!line.startsWith('data:') || sequence === undefined || occurred_at === undefined) continue
        reader.seen.push(Number(sequence))
        reader.delays.push(now - Date.parse(occurred_at))
      }
    })
  })
}

async function until(done: () => boolean, ms_max: number): Promise<void> {
  const end = performance.now() + ms_max
  while (!done() && performance.now() < end) await pause(50)
}
