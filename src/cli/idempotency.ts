import type { Command } from 'commander'
import { CommandFailure } from './exits.ts'

export const declareIdempotency = (command: Command): Command =>
  command.option('--idempotency-key <key>', 'makes repeating this command safe for 24 hours')

/** What a request is given of it. */
export function idempotencyOf(options: Record<string, unknown>): { headers?: Record<string, string> } {
  const key = options.idempotencyKey
  if (key === undefined) return {}
  if (!/^[\x21-\x7e]{1,255}$/.test(String(key)))
    throw new CommandFailure('usage', 'An idempotency key is 1 to 255 printable characters without spaces.')
  return { headers: { 'idempotency-key': String(key) } }
}
