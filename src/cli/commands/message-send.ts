import { randomUUID } from 'node:crypto'
import type { Command } from 'commander'
import { z } from 'zod'
import { BODY_BYTES_MAX, SendMessage } from '../../contract/index.ts'
import { actingClient, ownRun } from '../acting.ts'
import { type Context, type Given, readAll } from '../context.ts'
import { CommandFailure } from '../exits.ts'

/** Longer than this the sender does not wait. */
const SEND_MS = 15_000

const collect = (value: string, before: string[] = []) => [...before, ...value.split(',').map((one) => one.trim())]

export function declare(command: Command): void {
  command
    .requiredOption('--to <runs>', 'ids of the runs, separated by commas; may be repeated', collect)
    .requiredOption('--subject <text>', 'what it is about')
    .requiredOption('--body <text>', 'the message; - reads it from stdin')
    .option('--sender-run-id <run>', 'the run in whose name it is sent; inside a run, its own')
    .option('--urgent', 'may interrupt what the agent is doing')
    .addHelpText('after', '\nAll recipients get it or none does. A run that has ended wakes up.')
}

const Options = z.object({
  to: z.array(z.string()),
  subject: z.string(),
  body: z.string(),
  senderRunId: z.string().optional(),
  urgent: z.boolean().optional(),
})

export async function run(context: Context, given: Given): Promise<void> {
  const o = Options.parse(given.options)
  const body = o.body === '-' ? await readAll(context.stdin, BODY_BYTES_MAX, 'The body on stdin') : o.body
  const sender_run_id = o.senderRunId ?? ownRun(context)
  const message = SendMessage.safeParse({
    to: [...new Set(o.to.filter((one) => one !== '').map((one) => one.toLowerCase()))],
    subject: o.subject,
    body,
    ...(sender_run_id === undefined ? {} : { sender_run_id }),
    ...(o.urgent === true ? { urgent: true } : {}),
  })
  if (!message.success) {
    const issue = message.error.issues[0]
    throw new CommandFailure('usage', `--${String(issue?.path[0] ?? 'body').replaceAll('_', '-')}: ${issue?.message}`)
  }
  const late = AbortSignal.timeout(SEND_MS)
  const answer = await actingClient(context)
    .messages.send({
      body: message.data,
      headers: { 'idempotency-key': randomUUID() },
      signal: AbortSignal.any([context.signal, late]),
    })
    .catch((error: unknown) => {
      if (!late.aborted || context.signal.aborted) throw error
      throw new CommandFailure(
        'timeout',
        `The server has not taken the message within ${SEND_MS / 1000} s. It may still arrive.`,
        `See: baton run message list ${message.data.to[0]}`,
      )
    })
  const { to } = message.data
  await context.out.show(answer, () => answer.message_ids.map((id, at) => `Sent ${id} to ${to[at]}`))
}
