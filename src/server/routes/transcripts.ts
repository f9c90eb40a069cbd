import { transcriptRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import type { ServerRoom } from '../room.ts'

export function transcriptAnswers({ engine }: ServerRoom): Answer[] {
  return [
    mount(transcriptRoutes.list, ({ caller, params, query }) => engine.transcripts.list(caller, params.run_id, query)),
    mount(transcriptRoutes.get, ({ caller, params }) => engine.transcripts.get(caller, params.run_id, params.position)),
  ]
}
