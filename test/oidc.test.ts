/** Identity tokens of runs, verified as a cloud provider would, and the workload tokens that name the acting run. */
import { randomBytes } from 'node:crypto'
import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, type JWTVerifyOptions, jwtVerify, SignJWT } from 'jose'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { manualClock } from '../src/db/clock.ts'
import { openKeyring } from '../src/engine/keyring.ts'
import { connect } from '../src/sdk/client.ts'
import { type House, type HouseOptions, startHouse } from './house/house.ts'
import type { Piece, ScriptedWorker } from './house/worker.ts'

let house: House
let worker: ScriptedWorker
const clock = manualClock()
const log = pino({ level: 'silent' })
const keys = () => openKeyring({ given: [{ text: randomBytes(32).toString('hex'), from: 'test' }] })

beforeAll(async () => {
  // Its clock is turned by hours, and no runner is heard of.
  const engine_limits = { lease_ms: 10 * 24 * 3_600_000 }
  house = await startHouse({ max_concurrent_runs: 500, keyring: await keys(), clock, log, engine_limits })
  worker = await house.worker({ worker_host: 'crew', capacity: 500 })
})
afterAll(() => house.close())

type Asked = NonNullable<NonNullable<Parameters<House['client']['runs']['create']>[0]>['body']>
async function begin(body: Asked = {}): Promise<Piece> {
  const { run_id } = await house.client.runs.create({ body: { prompt: 'work', ...body } })
  const piece = await worker.next()
  expect(piece.run_id).toBe(run_id)
  piece.claim()
  await piece.start()
  return piece
}
type Issue = Parameters<Piece['runner']['federation']['issue']>[0]['body']
const issue = (piece: Piece, body: Partial<Issue> = {}) =>
  piece.runner.federation.issue({ body: { audience: 'sts.example', ...body } })
const verify = (token: string, options: JWTVerifyOptions = {}, of = house) =>
  jwtVerify(token, createRemoteJWKSet(new URL('/.well-known/jwks.json', of.url)), {
    issuer: of.url,
    audience: 'sts.example',
    currentDate: clock.now(),
    ...options,
  })
const Discovery = z.object({ issuer: z.string(), jwks_uri: z.string() })
const Jwks = z.object({ keys: z.array(z.looseObject({ kid: z.string() })) })
const read = async (path: string, of = house) => (await fetch(of.url + path)).json()
const kids = async () => Jwks.parse(await read('/.well-known/jwks.json')).keys.map(({ kid }) => kid)

describe('an identity token', () => {
  test('is verified with what the server publishes, and says which run its bearer is', async () => {
    const environment = await house.client.environments.create({ body: { name: 'cloud' } })
    const piece = await begin({
      config: {
        name: 'reviewer',
        environment_id: environment.uid,
        skills: ['acme/app:.agents/skills/review/SKILL.md'],
      },
    })
    const { token, expires_at, issuer } = await issue(piece)
    expect(issuer).toBe(house.url)
    const { jwks_uri } = Discovery.parse(await read('/.well-known/openid-configuration'))
    const { payload, protectedHeader } = await jwtVerify(token, createRemoteJWKSet(new URL(jwks_uri)), {
      issuer,
      audience: 'sts.example',
      subject: `user:${house.owner.user_id}`,
      algorithms: ['ES256'],
      currentDate: clock.now(),
    })
    expect(protectedHeader).toMatchObject({ alg: 'ES256', typ: 'JWT', kid: expect.any(String) })
    expect(payload).toMatchObject({
      aud: ['sts.example'],
      teams: [house.owner.team_id],
      run_id: piece.run_id,
      environment: environment.uid,
      agent_name: 'reviewer',
      skill_spec: 'acme/app:.agents/skills/review/SKILL.md',
      host: 'crew',
      jti: expect.any(String),
    })
    expect(payload).not.toHaveProperty('principal')
    expect(payload).not.toHaveProperty('email')
    expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBe(3600)
    expect(Date.parse(expires_at)).toBe((payload.exp ?? 0) * 1000)
  })

  test('has the subject that its template says', async () => {
    const piece = await begin({ config: { name: 'a:b%' } })
    const sub = async (...subject_template: NonNullable<Issue['subject_template']>) =>
      decodeJwt((await issue(piece, { subject_template })).token).sub
    const { team_id, user_id } = house.owner
    expect(await sub()).toBe(`user:${user_id}`)
    expect(await sub('scoped_principal')).toBe(`scoped_principal:${team_id}/user:${user_id}`)
    expect(await sub('teams', 'host')).toBe(`teams:${team_id}:host:crew`)
    // What is in a value cannot pass for another claim.
    expect(await sub('agent_name', 'run_id')).toBe(`agent_name:a%3Ab%25:run_id:${piece.run_id}`)
    await expect(sub('environment')).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringContaining('no environment'),
    })
    const agent = await house.client.identities.create({ body: { name: 'bot' } })
    const bot = await begin({ agent_identity_uid: agent.uid })
    expect(decodeJwt((await issue(bot)).token).sub).toBe(`service_account:${agent.uid}`)
  })

  test('lasts as asked, within its bounds', async () => {
    const piece = await begin()
    const { exp = 0, iat = 0 } = decodeJwt((await issue(piece, { requested_duration_seconds: 900 })).token)
    expect(exp - iat).toBe(900)
    for (const requested_duration_seconds of [1, 24 * 3600, 0.5])
      await expect(issue(piece, { requested_duration_seconds })).rejects.toMatchObject({ code: 'invalid_request' })
    await expect(issue(piece, { audience: ' ' })).rejects.toMatchObject({ code: 'invalid_request' })
  })

  test('is issued to a run at work alone', async () => {
    const piece = await begin()
    await issue(piece)
    await expect(house.client.federation.issue({ body: { audience: 'a' } })).rejects.toMatchObject({
      code: 'not_authorized',
    })
    await piece.finish()
    await expect(issue(piece)).rejects.toMatchObject({ code: 'authentication_required' })
  })

  test('is not taken with another key, another audience, another issuer, or when it is over', async () => {
    const { token } = await issue(await begin())
    await verify(token)
    await expect(verify(token, { audience: 'other' })).rejects.toThrow()
    await expect(verify(token, { issuer: 'https://other.example' })).rejects.toThrow()
    const later = new Date(clock.now().getTime() + 3_601_000)
    await expect(verify(token, { currentDate: later })).rejects.toThrow('exp')
    const [head, body, signature = ''] = token.split('.')
    const forged = Buffer.from(JSON.stringify({ ...decodeJwt(token), sub: 'user:other' })).toString('base64url')
    await expect(verify([head, forged, signature].join('.'))).rejects.toThrow('signature')
    await expect(verify(`${head}.${body}.${signature.slice(0, -4)}AAAA`)).rejects.toThrow()
  })

  test('is signed by a new key after a rotation, and the old one stays published as long as it must', async () => {
    const piece = await begin()
    const before = (await issue(piece, { requested_duration_seconds: 12 * 3600 })).token
    const old = decodeProtectedHeader(before).kid
    const { kid, signs_from } = await house.client.federation.rotate()
    // Asked again, there is still only one to come.
    expect((await house.client.federation.rotate()).kid).toBe(kid)
    expect(await kids()).toEqual([kid, old])
    expect(decodeProtectedHeader((await issue(piece)).token).kid).toBe(old)
    clock.advance(Date.parse(signs_from) - clock.now().getTime())
    expect(decodeProtectedHeader((await issue(piece)).token).kid).toBe(kid)
    await verify(before)
    clock.advance(11 * 3_600_000)
    await verify(before)
    clock.advance(2 * 3_600_000)
    expect(await kids()).toEqual([kid])
    await house.server.engine.federation.sweep()
    expect(
      (
        await house.database.kysely
          .selectFrom('issuer_keys')
          .select('kid')
          .where('kid', '=', old ?? '')
          .execute()
      ).length,
    ).toBe(0)
  })

  test('has a private key that is nowhere in the database in plain', async () => {
    await issue(await begin())
    const rows = await house.database.kysely.selectFrom('issuer_keys').selectAll().execute()
    expect(rows.length).toBeGreaterThan(1)
    expect(JSON.stringify(rows)).not.toContain('"d":')
  })
})

test('a server without a master key publishes no keys and says what it lacks', async () => {
  const without = await startHouse({ log })
  try {
    const taker = await without.worker()
    await without.client.runs.create({ body: { prompt: 'work' } })
    const piece = await taker.next()
    piece.claim()
    await piece.start()
    expect(piece.assignment.env_vars).not.toHaveProperty('WARP_WORKLOAD_TOKEN')
    expect(await read('/.well-known/jwks.json', without)).toEqual({ keys: [] })
    await expect(issue(piece)).rejects.toMatchObject({ message: expect.stringContaining('BATON_SECRET_KEY') })
  } finally {
    await without.close()
  }
})

test('a server that knows where others reach it is the issuer under that address', async () => {
  const options: HouseOptions = { keyring: await keys(), public_url: 'https://baton.example/' }
  const outside = await startHouse(options)
  try {
    expect(await read('/.well-known/openid-configuration', outside)).toMatchObject({
      issuer: 'https://baton.example',
      jwks_uri: 'https://baton.example/.well-known/jwks.json',
      id_token_signing_alg_values_supported: ['ES256'],
    })
  } finally {
    await outside.close()
  }
})

describe('a workload token', () => {
  const tokenOf = ({ assignment }: Piece) => assignment.env_vars.WARP_WORKLOAD_TOKEN ?? ''
  const shown = (api_key: string, token: string, run_id?: string) =>
    connect({
      server: house.url,
      token: api_key,
      retries: 0,
      headers: {
        'x-warp-ambient-workload-token': token,
        ...(run_id === undefined ? {} : { 'x-warp-cloud-agent-id': run_id }),
      },
    })
  const tell = (client: ReturnType<typeof shown>) =>
    client.harnessSupport.notifyUser({ body: { message: 'It goes well.' } })

  test('names the acting run beside its own token, and beside the key of somebody in its team', async () => {
    const piece = await begin()
    const own = piece.assignment.env_vars.WARP_API_KEY ?? ''
    expect(decodeJwt(tokenOf(piece))).toMatchObject({ run_id: piece.run_id, execution_id: piece.execution_id })
    for (const key of [own, house.api_key]) {
      await tell(shown(key, tokenOf(piece)))
      await tell(shown(key, tokenOf(piece), piece.run_id))
      const { token } = await shown(key, tokenOf(piece)).federation.issue({ body: { audience: 'sts.example' } })
      expect((await verify(token)).payload.run_id).toBe(piece.run_id)
    }
    await expect(tell(house.client)).rejects.toMatchObject({ code: 'not_authorized' })
    // Where people may ask, the key is still that of the person.
    const { kind } = await shown(house.api_key, tokenOf(piece)).access.whoami()
    expect(kind).toBe('user')
  })

  test('contradicts neither key nor header, and is nothing for others', async () => {
    const [one, other] = [await begin(), await begin()]
    const own = one.assignment.env_vars.WARP_API_KEY ?? ''
    await expect(tell(shown(own, tokenOf(other)))).rejects.toMatchObject({ code: 'not_authorized' })
    await expect(tell(shown(own, tokenOf(one), other.run_id))).rejects.toMatchObject({ code: 'not_authorized' })
    const stranger = await house.addTeam('strangers')
    await expect(tell(shown(stranger.api_key, tokenOf(one)))).rejects.toMatchObject({ code: 'not_authorized' })
    const claims = { run_id: one.run_id, execution_id: one.execution_id }
    const forged = await new SignJWT(claims)
      .setProtectedHeader({ alg: 'HS256' })
      .setIssuer('baton')
      .setAudience('baton:workload')
      .sign(randomBytes(32))
    const { token: identity } = await issue(one)
    for (const wrong of [forged, identity, 'nonsense', tokenOf(one).slice(0, -2)])
      await expect(tell(shown(house.api_key, wrong))).rejects.toMatchObject({ code: 'authentication_required' })
  })

  test('is worth nothing once its execution has ended', async () => {
    const piece = await begin()
    await piece.finish()
    await expect(tell(shown(house.api_key, tokenOf(piece)))).rejects.toMatchObject({ code: 'authentication_required' })
  })
})
