import { modelRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import type { ServerRoom } from '../room.ts'

export function modelAnswers({ engine: { models } }: ServerRoom): Answer[] {
  return [mount(modelRoutes.list, ({ caller }) => models.list(caller))]
}
