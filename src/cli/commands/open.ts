import type { Command } from 'commander'
import { openInBrowser } from '../browser.ts'
import { type Context, clientOf, type Given } from '../context.ts'

export function declare(command: Command): void {
  command.option('--print', 'print the address only')
}

export async function run(context: Context, given: Given): Promise<void> {
  const { code, expires_at } = await clientOf(context).access.createLoginCode({ signal: context.signal })
  const url = `${context.settings.server.value}/login#code=${code}`
  await context.out.show({ url, expires_at }, () => [url])
  if (given.options.print !== true && context.out.terminal) openInBrowser(url, context)
}
