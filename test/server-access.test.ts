/** Who may ask, from where: hosts, origins, sessions, wrong keys. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { SESSION_COOKIE, WORKER_SOCKET_PATH } from '../src/contract/index.ts'
import { type House, startHouse } from './house/house.ts'

let house: House
let web_dir: string
let cookie: string

beforeAll(async () => {
  web_dir = await mkdtemp(join(tmpdir(), 'baton-web-'))
  await mkdir(join(web_dir, 'assets'))
  await writeFile(join(web_dir, 'index.html'), '<!doctype html><title>page</title>')
  await writeFile(join(web_dir, 'assets', 'index-Ab12Cd34.js'), 'export {}')
  await writeFile(join(web_dir, '.secret'), 'leaked')
  await writeFile(join(web_dir, '..', 'baton-outside.txt'), 'leaked')
  house = await startHouse({ web_dir, public_hosts: ['baton.example'], limits: { wrong_keys_a_minute: 1_000 } })
  cookie = await signIn({ api_key: house.api_key })
})
afterAll(async () => {
  await house.close()
  await rm(web_dir, { recursive: true, force: true })
  await rm(join(web_dir, '..', 'baton-outside.txt'), { force: true })
})

async function signIn(body: unknown): Promise<string> {
  const answer = await send('POST', '/api/v1/session', {}, JSON.stringify(body))
  expect(answer.status).toBe(200)
  return String(answer.headers['set-cookie']).split(';')[0] ?? ''
}

type Sent = { status: number; headers: Record<string, string | string[] | undefined>; body: string }

/** `fetch` sets Host and Origin itself; this sends what it is given. Of an event stream the first bytes suffice. */
function send(
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body?: string,
  port = house.port,
): Promise<Sent> {
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        host: '127.0.0.1',
        port,
        method,
        path,
        headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      },
      (answer) => {
        let text = ''
        const done = () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: text })
        answer.on('data', (chunk) => {
          text += String(chunk)
          if (answer.headers['content-type']?.startsWith('text/event-stream')) {
            done()
            asked.destroy()
          }
        })
        answer.on('end', done)
      },
    )
    asked.on('error', reject)
    asked.end(body)
  })
}

const bearer = () => ({ authorization: `Bearer ${house.api_key}` })

test.each([
  ['127.0.0.1:PORT', 200],
  ['localhost:PORT', 200],
  ['LOCALHOST', 200],
  ['[::1]:PORT', 200],
  ['baton.example', 200],
  ['baton.example:443', 200],
  ['evil.test', 421],
  ['127.0.0.1.evil.test', 421],
  ['localhost.evil.test:PORT', 421],
  ['evil.test:127', 421],
  ['baton.example.evil.test', 421],
  ['notbaton.example', 421],
  ['user@evil.test', 421],
  ['127.0.0.2', 421],
  ['0.0.0.0:PORT', 421],
])('a request for the host %j is answered with %i', async (host, status) => {
  const answer = await send('GET', '/api/v1/health', { host: host.replace('PORT', String(house.port)) })
  // What is no host at all is refused before it is looked at.
  if (status === 421) expect([400, 421]).toContain(answer.status)
  else expect(answer.status).toBe(status)
  if (answer.status === 421) expect(answer.body).toContain('start it as `baton serve --public-host`')
})

const own = () => `http://127.0.0.1:${house.port}`
const origins: [string, () => string, boolean][] = [
  ['its own origin', own, true],
  ['its public name', () => 'https://baton.example', true],
  ['null', () => 'null', false],
  ['another site', () => 'https://evil.test', false],
  ['another port', () => 'http://127.0.0.1:1', false],
  ['a name that begins alike', () => 'http://127.0.0.1.evil.test', false],
  ['a name that ends alike', () => 'https://evilbaton.example', false],
  ['an extension', () => 'chrome-extension://abc', false],
  ['user info', () => `http://127.0.0.1:${house.port}@evil.test`, false],
]
test.each(origins)('a page of %s is judged the same with a key and with a session', async (_, origin, allowed) => {
  const headers = { origin: origin(), host: `127.0.0.1:${house.port}` }
  for (const auth of [bearer(), { cookie }]) {
    expect((await send('POST', '/api/v1/agent/runs', { ...headers, ...auth }, '{"prompt":"x"}')).status).toBe(
      allowed ? 200 : 403,
    )
    expect((await send('GET', '/api/v1/stream', { ...headers, ...auth })).status).toBe(allowed ? 200 : 403)
  }
})

test("a session needs the page's own origin to change something; a key does not", async () => {
  const create = (headers: Record<string, string>) => send('POST', '/api/v1/agent/runs', headers, '{"prompt":"x"}')
  expect((await create({ cookie })).status).toBe(403)
  expect((await create({ cookie, 'sec-fetch-site': 'cross-site' })).status).toBe(403)
  expect((await create({ cookie, 'sec-fetch-site': 'same-site' })).status).toBe(403)
  expect((await create({ cookie, referer: 'http://evil.test/' })).status).toBe(403)
  expect((await create({ cookie, 'sec-fetch-site': 'same-origin' })).status).toBe(200)
  expect((await create(bearer())).status).toBe(200)
})

test('a session reads from its own page and streams only to it', async () => {
  expect((await send('GET', '/api/v1/whoami', { cookie })).status).toBe(200)
  expect((await send('GET', '/api/v1/whoami', { cookie, 'sec-fetch-site': 'cross-site' })).status).toBe(403)
  expect((await send('GET', '/api/v1/stream', { cookie })).status).toBe(403)
  expect((await send('GET', '/api/v1/stream', { cookie, 'sec-fetch-site': 'same-origin' })).status).toBe(200)
  expect((await send('GET', '/api/v1/stream', { cookie, referer: `${own()}/runs` })).status).toBe(200)
})

test('nothing is said to other origins by CORS', async () => {
  const answer = await send('OPTIONS', '/api/v1/agent/runs', {
    origin: 'https://evil.test',
    'access-control-request-method': 'POST',
  })
  expect(answer.status).toBe(405)
  expect(Object.keys(answer.headers).filter((name) => name.startsWith('access-control'))).toEqual([])
})

test("a session's cookie is out of reach of scripts and other sites, and ends when it is signed out", async () => {
  const answer = await send(
    'POST',
    '/api/v1/session',
    { 'x-forwarded-proto': 'https' },
    JSON.stringify({ api_key: house.api_key }),
  )
  const set = String(answer.headers['set-cookie'])
  expect(set).toMatch(/HttpOnly/)
  expect(set).toMatch(/SameSite=Lax/)
  expect(set).toMatch(/Path=\//)
  expect(set).toMatch(/Secure/)
  const mine = set.split(';')[0] ?? ''
  expect((await send('GET', '/api/v1/whoami', { cookie: mine })).body).toContain('"by":"session"')
  const out = await send('DELETE', '/api/v1/session', { cookie: mine, origin: own() })
  expect(out.status).toBe(200)
  expect(String(out.headers['set-cookie'])).toMatch(new RegExp(`^${SESSION_COOKIE}=;`))
  expect((await send('GET', '/api/v1/whoami', { cookie: mine })).status).toBe(401)
})

test('a login code opens one session, once', async () => {
  const { code } = await house.client.access.createLoginCode()
  const opened = await signIn({ code })
  expect((await send('GET', '/api/v1/whoami', { cookie: opened })).status).toBe(200)
  expect((await send('POST', '/api/v1/session', {}, JSON.stringify({ code }))).status).toBe(401)
  expect(
    (await send('POST', '/api/v1/session', { origin: 'https://evil.test' }, JSON.stringify({ api_key: house.api_key })))
      .status,
  ).toBe(403)
})

test('many wrong keys from one address are slowed down, a right one is not', async () => {
  const other = await house.sibling({ limits: { wrong_keys_a_minute: 5 } })
  const wrong = (key: string) =>
    send('GET', '/api/v1/whoami', { authorization: `Bearer ${key}` }, undefined, other.server.port)
  for (let n = 0; n < 5; n++) expect((await wrong(`wk-1.${String(n).repeat(64)}`)).status).toBe(401)
  const refused = await wrong(`wk-1.${'9'.repeat(64)}`)
  expect(refused.status).toBe(429)
  expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0)
  expect((await send('POST', '/api/v1/session', {}, '{"code":"x"}', other.server.port)).status).toBe(429)
  expect((await wrong(house.api_key)).status).toBe(200)
})

test("a worker's socket obeys the same rules", async () => {
  const knock = (headers: Record<string, string>, query = '?worker_id=w', path = WORKER_SOCKET_PATH) =>
    new Promise<number>((resolve) => {
      const socket = new WebSocket(`ws://127.0.0.1:${house.port}${path}${query}`, { headers })
      socket.on('open', () => {
        socket.terminate()
        resolve(101)
      })
      socket.on('unexpected-response', (_request, answer) => resolve(answer.statusCode ?? 0))
      socket.on('error', () => {})
    })
  const worker_key = (await house.server.engine.access.createKey(house.owner, { name: 'w', scope: 'worker' })).api_key
  expect(await knock(bearer())).toBe(101)
  expect(await knock({ authorization: `Bearer ${worker_key}` })).toBe(101)
  expect(await knock({})).toBe(401)
  expect(await knock({ cookie })).toBe(401)
  expect(await knock({ authorization: `Bearer wk-1.${'0'.repeat(64)}` })).toBe(401)
  expect(await knock({ ...bearer(), origin: 'https://evil.test' })).toBe(403)
  expect(await knock({ ...bearer(), host: 'evil.test' })).toBe(421)
  expect(await knock(bearer(), '')).toBe(400)
  expect(await knock(bearer(), '?worker_id=WARP-1')).toBe(400)
  expect(await knock(bearer(), '?worker_id=a%20b')).toBe(400)
  expect(await knock(bearer(), '?worker_id=w', '/api/v1/other')).toBe(404)
})

test('the page is served with its own routes, a strict policy and lasting assets', async () => {
  const page = await send('GET', '/runs/some-run', { accept: 'text/html,*/*' })
  expect(page.body).toContain('<title>page</title>')
  expect(page.headers['content-security-policy']).toContain("default-src 'none'")
  expect(page.headers['content-security-policy']).toContain("frame-ancestors 'none'")
  expect(page.headers['x-content-type-options']).toBe('nosniff')
  expect(page.headers['cache-control']).toBe('no-cache')
  const again = await send('GET', '/', { accept: 'text/html', 'if-none-match': String(page.headers.etag) })
  expect(again.status).toBe(304)
  const script = await send('GET', '/assets/index-Ab12Cd34.js')
  expect(script.headers['content-type']).toMatch(/javascript/)
  expect(script.headers['cache-control']).toContain('immutable')
})

test("no path leads out of the page's folder or to hidden files", async () => {
  for (const path of [
    '/../baton-outside.txt',
    '/%2e%2e/baton-outside.txt',
    '/..%2fbaton-outside.txt',
    '/assets/..%2f..%2fbaton-outside.txt',
    '/..\\baton-outside.txt',
    '/.secret',
    '/%2esecret',
    '/assets/%00',
    '/%',

    '/assets/missing-12345678.js',
  ]) {
    const answer = await send('GET', path, { accept: 'text/html' })
    expect(answer.body, path).not.toMatch(/leaked|root:/)
    expect([400, 404], path).toContain(answer.status)
  }
})

test('a server without the page says so, and how to build it', async () => {
  const bare = await house.sibling({ web_dir: null })
  const answer = await send('GET', '/', { accept: 'text/html' }, undefined, bare.server.port)
  expect(answer.body).toContain('npm run build')
})

test('a body that comes too slowly is given up', async () => {
  const slow = await house.sibling({ limits: { request_ms: 300 } })
  const status = await new Promise<number | string>((resolve) => {
    const asked = request(
      {
        host: '127.0.0.1',
        port: slow.server.port,
        method: 'POST',
        path: '/api/v1/agent/runs',
        headers: { ...bearer(), 'content-type': 'application/json', 'content-length': '100' },
      },
      (answer) => {
        answer.resume()
        resolve(answer.statusCode ?? 0)
      },
    )
    asked.on('error', (error) => resolve(error.message))
    asked.write('{')
  })
  expect(status).toEqual(expect.toBeOneOf([408, 'socket hang up', 'read ECONNRESET']))
}, 45_000)
