import { workerRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import type { ServerRoom } from '../room.ts'

export function workerAnswers({ engine }: ServerRoom): Answer[] {
  return [mount(workerRoutes.list, ({ caller }) => engine.workers.list(caller))]
}
