import type { Command } from 'commander'
import type { Context } from '../context.ts'

export function declare(_command: Command): void {}

export async function run(context: Context): Promise<void> {
  const { serveAgent } = await import('../../agent/agent.ts')
  await serveAgent({ env: context.env, stdin: context.stdin, stdout: context.stdout, signal: context.signal })
}
