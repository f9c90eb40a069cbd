import { artifactRoutes } from '../../contract/index.ts'
import { type Answer, mount, mountAnyone } from '../answers.ts'
import { DOWNLOAD_PATH, rootOf } from '../downloads.ts'
import type { ServerRoom } from '../room.ts'

export function artifactAnswers({ engine: { artifacts } }: ServerRoom): Answer[] {
  return [
    mountAnyone(artifactRoutes.get, ({ caller, params, headers, is_secure }) =>
      artifacts.get(caller, params.artifact_uid, rootOf(headers, is_secure) + DOWNLOAD_PATH),
    ),
    mountAnyone(artifactRoutes.download, async ({ caller, params, headers, is_secure, setHeader }) => {
      const signed = await artifacts.address(caller, params.artifact_uid, rootOf(headers, is_secure) + DOWNLOAD_PATH)
      setHeader('location', signed.download_url)
      return signed
    }),
    mount(artifactRoutes.upload, ({ caller, body, headers, is_secure }) =>
      artifacts.upload(caller, body, rootOf(headers, is_secure)),
    ),
    mount(artifactRoutes.confirm, ({ caller, params, body }) =>
      artifacts.confirm(caller, params.upload_id, body.checksum),
    ),
  ]
}
