import { randomUUID } from 'node:crypto'
import type { Command } from 'commander'
import { RunMode, readTyped } from '../../contract/index.ts'
import { askLine } from '../ask.ts'
import { type Context, clientOf, type Given, readAll } from '../context.ts'
import { CommandFailure } from '../exits.ts'

const BYTES_MAX = 128 * 1024

export function declare(command: Command): void {
  command
    .argument('<run>', 'the run that is told more')
    .argument('[message]', 'what it is told; - reads it from stdin; asked for on a terminal where absent')
    .option('--mode <mode>', 'normal, plan or orchestrate: whether it proposes a plan first')
    .addHelpText('after', '\nA run that has ended goes on. One whose plan waits is asked for changes.')
}

export async function run(context: Context, given: Given): Promise<void> {
  const [run_id = ''] = given.args
  const mode = RunMode.optional().safeParse(given.options.mode)
  if (!mode.success) throw new CommandFailure('usage', '--mode is normal, plan or orchestrate.')
  const said = await readMessage(context, given.args[1])
  const asked = mode.data ?? (said.mode === 'normal' ? undefined : said.mode)
  const answer = await clientOf(context).followUps.create({
    params: { run_id },
    body: { message: said.prompt, ...(asked === undefined ? {} : { mode: asked }) },
    headers: { 'idempotency-key': randomUUID() },
    signal: context.signal,
  })
  await context.out.show(answer, () => [`Accepted. See what comes of it: baton run watch ${run_id}`])
}

/** Only what is typed when asked may say its mode itself. */
async function readMessage(context: Context, given: string | undefined): Promise<{ mode: RunMode; prompt: string }> {
  if (given === undefined && context.interactive) return readTyped(await askLine(context, 'What is it to be told?'))
  const on_stdin = given === undefined || given === '-'
  const prompt = on_stdin ? await readAll(context.stdin, BYTES_MAX, 'The message on stdin') : given
  if (prompt.trim() === '')
    throw new CommandFailure('usage', 'There is no message.', 'Give it as argument or on stdin.')
  return { mode: 'normal', prompt }
}
