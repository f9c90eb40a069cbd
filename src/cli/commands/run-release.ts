import type { Command } from 'commander'
import { type Context, clientOf, type Given } from '../context.ts'
import { treeLines } from '../tree.ts'

export function declare(command: Command): void {
  command
    .argument('<run>', 'id of a run of the tree')
    .addHelpText('after', '\nIt goes on with fresh limits; "baton run tree RUN" says why it was stopped.')
}

export async function run(context: Context, given: Given): Promise<void> {
  const { out, signal } = context
  const tree = await clientOf(context).trees.release({ params: { run_id: given.args[0] ?? '' }, signal })
  await out.show(tree, () => ['The tree goes on.', ...treeLines(tree, { now: Date.now(), width: out.width })])
}
