/**
 * Where the bytes of artifacts are served: addresses that are signed and expire, and take no other credentials. Not
 * part of the contract, since with other blob stores it is the store that serves them.
 *
 * What runs have made is never to act in the page's name: it is saved, not shown, and may run nothing.
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { ServerRoom } from './room.ts'

export const DOWNLOAD_PATH = '/artifacts/'

/** The root under which the one who asks has reached this server. */
export const rootOf = (headers: IncomingHttpHeaders, is_secure: boolean): string =>
  `${is_secure ? 'https' : 'http'}://${headers.host ?? 'localhost'}`

export async function sendDownload(
  { engine }: ServerRoom,
  artifact_uid: string,
  query: Record<string, string>,
): Promise<Response> {
  const file = await engine.artifacts.download(artifact_uid, query)
  return new Response(new Uint8Array(file.bytes), {
    headers: {
      'content-type': file.mime_type,
      'content-length': String(file.bytes.length),
      'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent(file.filename)}`,
      'content-security-policy': "default-src 'none'; sandbox",
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'cache-control': 'private, no-store',
    },
  })
}
