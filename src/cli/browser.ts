/** Opens an address in the person's browser, where there is one. */
import { spawn } from 'node:child_process'
import type { Context } from './context.ts'

export function openInBrowser(url: string, context: Context): void {
  const opener = process.platform === 'darwin' ? 'open' : 'xdg-open'
  const child = spawn(opener, [url], { stdio: 'ignore', detached: true })
  child.on('error', () => context.out.note('No browser could be opened; follow the address above.'))
  child.unref()
}
