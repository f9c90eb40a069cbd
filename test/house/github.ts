/**
 * A GitHub on loopback as git meets it: `https://github.com` with a certificate, reached through a proxy as from behind
 * a company's firewall, serving real repositories with git's own HTTP backend. What a private repository, a wrong
 * token, a renamed repository and too many requests are answered with is as github.com does it.
 */
import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createProxy, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { listenOnLoopback } from './port.ts'

type Asked = { host: string; path: string; authorization: string | undefined }

export type GitHub = {
  /** What a process needs to reach it. */
  env: Record<string, string>
  asked: Asked[]
  /** Hosts that somebody wanted to reach, in order. */
  hosts: string[]
  /** Command lines of processes that had a token in them while they asked. */
  leaks: string[]
  /** Makes `owner/name` with one commit; `readers`: tokens that may read it, none: everybody. */
  add(repository: string, files: Record<string, string>, readers?: string[]): void
  /** Asked for the first, it sends to the second: a path here, or an address elsewhere. */
  move(from: string, to: string): void
  /** Every request is answered with 429 until it is called with false. */
  limit(on: boolean): void
  close(): Promise<void>
}

const TOKENS = ['ghp_reader', 'ghp_stranger']

export async function openGitHub(): Promise<GitHub> {
  const folder = mkdtempSync(join(tmpdir(), 'baton-github-'))
  const certificate = makeCertificate(folder)
  const readers = new Map<string, string[]>()
  const moved = new Map<string, string>()
  const asked: Asked[] = []
  const hosts: string[] = []
  const leaks: string[] = []
  let limited = false

  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    const url = new URL(request.url ?? '/', 'https://github.com')
    const { host = '', authorization } = request.headers
    asked.push({ host, path: url.pathname, authorization })
    leaks.push(...commandLinesWith(TOKENS))
    const [, repository = ''] = /^\/([^/]+\/[^/]+?)(?:\.git)?\/(?:info|git-)/.exec(url.pathname) ?? []
    const refuse = (status: number, text: string, headers: Record<string, string> = {}) => {
      request.resume()
      response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', ...headers }).end(text)
    }
    if (limited) return refuse(429, 'Too many requests.\n', { 'retry-after': '60' })
    const to = moved.get(repository)
    if (to !== undefined)
      return refuse(301, '', {
        location: to.startsWith('https:') ? to : `https://github.com/${to}/info/refs${url.search}`,
      })
    const token = tokenOf(authorization)
    const basic = { 'www-authenticate': 'Basic realm="GitHub"' }
    if (authorization !== undefined && !TOKENS.includes(token ?? ''))
      return refuse(
        401,
        'Invalid username or token. Password authentication is not supported for Git operations.',
        basic,
      )
    const allowed = readers.get(repository)
    // It never says whether there is a repository that the caller may not read.
    if (allowed === undefined || (allowed.length > 0 && !allowed.includes(token ?? '')))
      return token === undefined ? refuse(401, 'Repository not found.', basic) : refuse(404, 'Repository not found.')
    serve(folder, repository, { url, request, response })
  }

  const github = await listenOnLoopback(createServer(certificate, answer))
  const door = createProxy((_, response) => response.writeHead(405).end())
  const tunnels = new Set<Socket>()
  door.on('connect', (request: IncomingMessage, near: Socket) => {
    hosts.push((request.url ?? '').split(':')[0] ?? '')
    const far = connect(github.port, '127.0.0.1', () => {
      near.write('HTTP/1.1 200 Connection established\r\n\r\n')
      near.pipe(far).pipe(near)
    })
    for (const socket of [near, far]) {
      tunnels.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        tunnels.delete(socket)
        near.destroy()
        far.destroy()
      })
    }
  })
  const proxy = await listenOnLoopback(door)

  return {
    asked,
    hosts,
    leaks,
    env: {
      PATH: process.env.PATH ?? '',
      https_proxy: proxy.url,
      GIT_SSL_CAINFO: join(folder, 'ca.pem'),
    },
    add(repository, files, who = []) {
      const bare = join(folder, `${repository}.git`)
      const work = join(folder, 'work', repository)
      mkdirSync(work, { recursive: true })
      git(work, 'init', '-q')
      for (const [path, text] of Object.entries(files)) {
        mkdirSync(dirname(join(work, path)), { recursive: true })
        writeFileSync(join(work, path), text)
      }
      git(work, 'add', '-A')
      git(work, 'commit', '-qm', 'Files')
      git(work, 'clone', '-q', '--bare', '.', bare)
      for (const setting of ['uploadpack.allowFilter', 'uploadpack.allowAnySHA1InWant'])
        git(bare, 'config', setting, 'true')
      readers.set(repository, who)
    },
    move: (from, to) => void moved.set(from, to),
    limit(on) {
      limited = on
    },
    async close() {
      for (const socket of tunnels) socket.destroy()
      await Promise.all([github.close(), proxy.close()])
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** Of github.com and of a host elsewhere, by an authority that is in `ca.pem`. */
function makeCertificate(folder: string): { key: Buffer; cert: Buffer } {
  const at = (name: string) => join(folder, name)
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'ignore' })
  const fresh = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  openssl('req', '-x509', ...fresh, '-keyout', at('ca.key'), '-out', at('ca.pem'), '-days', '2', '-subj', '/CN=Test CA')
  openssl('req', ...fresh, '-keyout', at('key.pem'), '-out', at('csr.pem'), '-subj', '/CN=github.com')
  writeFileSync(at('names'), 'subjectAltName=DNS:github.com,DNS:elsewhere.example')
  const by = ['-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-CAcreateserial']
  openssl('x509', '-req', '-in', at('csr.pem'), ...by, '-out', at('cert.pem'), '-days', '2', '-extfile', at('names'))
  return { key: readFileSync(at('key.pem')), cert: readFileSync(at('cert.pem')) }
}

type Exchange = { url: URL; request: IncomingMessage; response: ServerResponse }

/** Git's own HTTP backend, which is a CGI program. */
function serve(folder: string, repository: string, { url, request, response }: Exchange): void {
  const rest = url.pathname.replace(/^\/[^/]+\/[^/]+?(?:\.git)?(?=\/(?:info|git-))/, '')
  const header = (name: string) => String(request.headers[name] ?? '')
  const child = spawn('git', ['http-backend'], {
    env: {
      PATH: process.env.PATH ?? '',
      GIT_PROJECT_ROOT: folder,
      GIT_HTTP_EXPORT_ALL: '1',
      // The folders may be of another user where tests run in a container.
      GIT_CONFIG_COUNT: '1',
      GIT_CONFIG_KEY_0: 'safe.directory',
      GIT_CONFIG_VALUE_0: '*',
      PATH_INFO: `/${repository}.git${rest}`,
      REQUEST_METHOD: request.method ?? 'GET',
      QUERY_STRING: url.search.slice(1),
      CONTENT_TYPE: header('content-type'),
      HTTP_CONTENT_ENCODING: header('content-encoding'),
      GIT_PROTOCOL: header('git-protocol'),
    },
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  request.pipe(child.stdin)
  child.stdin.on('error', () => {})
  const chunks: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
  child.on('close', () => {
    const all = Buffer.concat(chunks)
    const end = all.indexOf('\r\n\r\n')
    const headers = all.subarray(0, end).toString().split('\r\n')
    const pairs = headers.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()])
    const { Status = '200', ...others } = Object.fromEntries(pairs) as Record<string, string>
    response.writeHead(Number.parseInt(Status, 10), others).end(all.subarray(end + 4))
  })
}

function tokenOf(authorization: string | undefined): string | undefined {
  const [, basic] = /^Basic (.+)$/.exec(authorization ?? '') ?? []
  const [user, password] = basic === undefined ? [] : Buffer.from(basic, 'base64').toString().split(':')
  return password || user
}

/** Anybody on the machine can read these. */
function commandLinesWith(words: string[]): string[] {
  const found: string[] = []
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      if (words.some((word) => line.includes(word) || line.includes(Buffer.from(word).toString('base64'))))
        found.push(line)
    } catch {
      // It has ended meanwhile.
    }
  }
  return found
}

const git = (cwd: string, ...args: string[]) =>
  execFileSync(
    'git',
    ['-c', 'user.name=T', '-c', 'user.email=t@example.com', '-c', 'init.defaultBranch=main', ...args],
    {
      cwd,
      stdio: 'ignore',
    },
  )
