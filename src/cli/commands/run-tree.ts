import type { Command } from 'commander'
import { API_PREFIX, Tree, treeRoutes } from '../../contract/index.ts'
import { fillPath } from '../../sdk/client.ts'
import { bodyOf, type Context, clientOf, type Given } from '../context.ts'
import { artifactLines, treeLines } from '../tree.ts'

export function declare(command: Command): void {
  command
    .argument('<run>', 'id of the run at the top')
    .option('--ids', 'the id of each run, too')
    .addHelpText('after', '\nSee it move with: baton run watch RUN')
}

export async function run(context: Context, given: Given): Promise<void> {
  const { out, signal } = context
  const path = API_PREFIX + fillPath(treeRoutes.get.path, { run_id: given.args[0] ?? '' })
  const body = await bodyOf(await clientOf(context).raw('GET', path, { signal }))
  const tree = Tree.parse(body)
  await out.show(
    body,
    () => [
      ...treeLines(tree, { now: Date.now(), width: out.width, ids: given.options.ids === true }),
      ...artifactLines(tree),
    ],
    () => tree.nodes,
  )
}
