import type { Command } from 'commander'
import { openInBrowser } from '../browser.ts'
import { type Context, clientOf, type Given, webAddress } from '../context.ts'

export function declare(command: Command): void {
  command.argument('<run>', 'id of the run').option('--print', 'print the address only')
}

export async function run(context: Context, given: Given): Promise<void> {
  const run_id = given.args[0] ?? ''
  await clientOf(context).runs.get({ params: { run_id }, signal: context.signal })
  const url = webAddress(context, run_id)
  await context.out.show({ url }, () => [url])
  if (given.options.print !== true && context.out.terminal) openInBrowser(url, context)
}
