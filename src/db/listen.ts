/** One LISTEN connection that heals by itself. The contract is at `Database.listen`. */
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import type { Logger } from 'pino'

const RETRY_MS_FIRST = 100
const RETRY_MS_MAX = 5_000
/** A peer that vanished without a word is found out by asking. */
const PING_MS = 30_000
const PING_ANSWER_MS_MAX = 10_000

type Options = { onPayload: (payload: string | null) => void; log?: Logger }

export async function listenOn(
  config: pg.ClientConfig,
  channel: string,
  options: Options,
): Promise<() => Promise<void>> {
  const stopping = new AbortController()
  let client = await connect(config, channel, options)
  const following = follow()

  async function follow(): Promise<void> {
    while (!stopping.signal.aborted) {
      const reason = await broken(client, stopping.signal)
      await client.end().catch(() => undefined)
      if (stopping.signal.aborted) return
      options.log?.warn({ channel, error: reason }, 'database.listener_lost')
      const next = await reconnect()
      if (next === null) return
      client = next
      options.onPayload(null)
    }
  }

  async function reconnect(): Promise<pg.Client | null> {
    for (let wait_ms = RETRY_MS_FIRST; !stopping.signal.aborted; wait_ms = Math.min(wait_ms * 2, RETRY_MS_MAX)) {
      try {
        return await connect(config, channel, options)
      } catch {
        await delay(wait_ms, undefined, { signal: stopping.signal }).catch(() => undefined)
      }
    }
    return null
  }

  return async () => {
    stopping.abort()
    await following
  }
}

async function connect(config: pg.ClientConfig, channel: string, options: Options): Promise<pg.Client> {
  const client = new pg.Client({ ...config, application_name: 'baton listen' })
  client.on('error', () => undefined)
  client.on('notification', (notification) => {
    if (notification.channel === channel) options.onPayload(notification.payload ?? '')
  })
  try {
    await client.connect()
    await client.query(`listen ${client.escapeIdentifier(channel)}`)
    return client
  } catch (error) {
    await client.end().catch(() => undefined)
    throw error
  }
}

/** Resolves with the reason when the connection is gone, or when told to stop. */
async function broken(client: pg.Client, signal: AbortSignal): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  const onError = (error: Error) => resolve(error.message)
  const onEnd = () => resolve('The connection ended.')
  const onAbort = () => resolve('stopped')
  let overdue: NodeJS.Timeout | undefined
  const ping = setInterval(() => {
    overdue = setTimeout(() => resolve('PostgreSQL did not answer.'), PING_ANSWER_MS_MAX).unref()
    client.query('select 1').then(() => clearTimeout(overdue), onError)
  }, PING_MS).unref()
  client.on('error', onError).on('end', onEnd)
  signal.addEventListener('abort', onAbort)
  if (signal.aborted) onAbort()
  try {
    return await promise
  } finally {
    clearInterval(ping)
    clearTimeout(overdue)
    client.off('error', onError).off('end', onEnd)
    signal.removeEventListener('abort', onAbort)
  }
}
