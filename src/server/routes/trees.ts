import { treeRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import type { ServerRoom } from '../room.ts'

export function treeAnswers({ engine }: ServerRoom): Answer[] {
  return [
    mount(treeRoutes.get, ({ caller, params }) => engine.trees.get(caller, params.run_id)),
    mount(treeRoutes.release, ({ caller, params }) => engine.trees.release(caller, params.run_id)),
  ]
}
