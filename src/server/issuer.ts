/**
 * The documents by which others verify the identity tokens of runs (OpenID Connect Discovery 1.0). They stand at the
 * root of the server, outside of the API, and anybody may read them.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { JWKS_KEPT_S } from '../engine/federation.ts'
import { rootOf } from './downloads.ts'
import type { ServerRoom } from './room.ts'

export const DISCOVERY_PATH = '/.well-known/openid-configuration'
export const JWKS_PATH = '/.well-known/jwks.json'

/** Where this server was reached, unless it is told where others reach it. */
export const issuerOf = ({ public_url }: ServerRoom, headers: IncomingHttpHeaders, is_secure: boolean): string =>
  (public_url ?? rootOf(headers, is_secure)).replace(/\/+$/, '')

export function discovery(room: ServerRoom, headers: IncomingHttpHeaders, is_secure: boolean): Response {
  const issuer = issuerOf(room, headers, is_secure)
  return document({
    issuer,
    jwks_uri: issuer + JWKS_PATH,
    response_types_supported: ['id_token'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: ['ES256'],
    scopes_supported: ['openid'],
    claims_supported: [
      ...['iss', 'sub', 'aud', 'exp', 'iat', 'nbf', 'jti', 'email', 'teams'],
      ...['environment', 'agent_name', 'skill_spec', 'run_id', 'host'],
    ],
  })
}

export const jwks = async ({ engine }: ServerRoom): Promise<Response> => document(await engine.federation.jwks())

const document = (body: unknown): Response =>
  new Response(JSON.stringify(body), {
    headers: { 'content-type': 'application/json', 'cache-control': `public, max-age=${JWKS_KEPT_S}` },
  })
