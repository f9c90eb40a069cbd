import { artifactRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import { DOWNLOAD_PATH, rootOf } from '../downloads.ts'
import type { ServerRoom } from '../room.ts'

export function artifactAnswers({ engine: { artifacts } }: ServerRoom): Answer[] {
  return [
    mount(artifactRoutes.get, ({ caller, params, headers, is_secure }) =>
      artifacts.get(caller, params.artifact_uid, rootOf(headers, is_secure) + DOWNLOAD_PATH),
    ),
    mount(artifactRoutes.create, ({ caller, params, body }) => artifacts.keep(caller, params.run_id, body)),
  ]
}
