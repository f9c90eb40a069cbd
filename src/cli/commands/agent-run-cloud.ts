import type { Command } from 'commander'
import { askedRun, declareAsking, declareTemplate } from '../asking.ts'
import { openInBrowser } from '../browser.ts'
import { type Context, clientOf, type Given, webAddress } from '../context.ts'
import { declareIdempotency, idempotencyOf } from '../idempotency.ts'
import { collect } from '../named.ts'
import { declareWaiting, waitAsAsked } from '../waiting.ts'

export function declare(command: Command): void {
  const asking = declareAsking(command.argument('[prompt]', 'what is to be done; - reads it from stdin'))
  declareIdempotency(declareWaiting(declareTemplate(asking)))
    .option('--attach <path>', 'file to give it; may be repeated, up to 5 times', collect)
    .option('--host <worker>', 'the worker that is to take it')
    .option('--placement <where>', 'of a child: worker, or parent for beside its parent, in the same files')
    .option('--open', 'open its page in the browser')
    .addHelpText(
      'after',
      `
Examples:
  baton agent run-cloud "Update the dependencies" --repo https://github.com/me/project#main
  git diff | baton agent run-cloud - --follow
  baton agent run-cloud "What is wrong here?" --attach screenshot.png --attach build.log
  baton agent run-cloud "npm test" --harness command --repo . --wait
  baton agent run-cloud --template critic-loop --set repo=. --set task="Speed up the parser"`,
    )
}

export async function run(context: Context, given: Given): Promise<number> {
  const { options } = given
  const client = clientOf(context)
  const body = {
    ...(await askedRun(context, options, given.args[0])),
    ...(options.attach === undefined ? {} : await (await import('../attachments.ts')).attachmentsOf(context, options)),
  }
  const created = await client.runs.create({ body, signal: context.signal, ...idempotencyOf(options) })
  const page = webAddress(context, created.run_id)
  if (options.open === true) openInBrowser(page, context)
  const said = [
    `Spawned ambient agent with run ID: ${created.run_id}`,
    `View run: ${page}`,
    ...(created.at_capacity === true
      ? ['Agent state: QUEUED (as many runs as allowed are going on; it starts by itself)']
      : []),
  ]
  return waitAsAsked(context, client, options, { created, said })
}
