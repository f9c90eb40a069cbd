import type { Command } from 'commander'
import type { Context, Given } from '../context.ts'
import * as get from './run-get.ts'

export function declare(command: Command): void {
  command.argument('<conversation>', 'id of the conversation, or of its run')
}

/** A conversation has the id of the run that began it. */
export const run = (context: Context, given: Given): Promise<void> =>
  get.run(context, { args: given.args, options: { ...given.options, conversation: true } })
