/**
 * Reads the skills of a repository with the machine's own git, without a checkout: a bare, shallow clone without file
 * contents, of which only each `SKILL.md` is fetched. Links of the repository are never followed, since nothing is ever
 * written as a file but git's own objects. Each reading has a folder of its own, which is gone when it ends.
 */
import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { addressKind, isRef, SKILL_FOLDERS, withoutSecret } from '../contract/index.ts'
import { parseSkillFile, SKILL_BYTES_MAX } from '../contract/skill-files.ts'

/** Of one repository; more are not looked at. */
export const SKILLS_MAX = 200
/** The largest file that git may write, which holds all that it fetches, in bytes. */
const PACK_BYTES_MAX = 256 * 1024 * 1024
/** All of one reading, in milliseconds. */
const READING_MS = 60_000
const OUTPUT_BYTES_MAX = SKILLS_MAX * (SKILL_BYTES_MAX + 256)

export type FoundSkill = { path: string; name: string; description: string; instructions: string; problem?: string }
export type SkillSource = {
  url: string
  ref: string | undefined
  /** For github.com over https; null: none. */
  github_token: string | null
}
/** Null: nothing has changed since `known_head`. Throws `ReadingFailed` with a sentence for people. */
export type ReadSkills = (
  source: SkillSource,
  known_head: string | null,
) => Promise<{ head: string; skills: FoundSkill[] } | null>

export class ReadingFailed extends Error {
  override readonly name = 'ReadingFailed'
}

export type SkillReaderOptions = {
  /** Holds the folders of readings. */
  folder: string
  env: Readonly<Record<string, string | undefined>>
  /**
   * The machine is one person's own: paths of its disk may be read, and that person's git configuration and logins
   * count. Otherwise only what an environment carries opens a repository.
   */
  own_machine: boolean
}

export function skillReader(options: SkillReaderOptions): ReadSkills {
  return async (source, known_head) => {
    const { url, login } = takeLogin(checkSource(source, options.own_machine), source.github_token)
    const signal = AbortSignal.timeout(READING_MS)
    await mkdir(options.folder, { recursive: true, mode: 0o700 })
    const folder = await mkdtemp(join(options.folder, 'reading-'))
    const env = { ...gitEnvironment(options, folder), ...login }
    const git = (args: string[], input = '') =>
      runGit({ args: [...safeConfig(options.own_machine), ...args], cwd: folder, env, input, signal })
    try {
      await git(['init', '--quiet', '--bare', '.'])
      await git(['config', '--file', 'config', '--add', 'remote.origin.url', url])
      await git([
        'fetch',
        '--quiet',
        '--depth=1',
        '--no-tags',
        '--filter=blob:none',
        '--',
        'origin',
        source.ref ?? 'HEAD',
      ])
      const head = (await git(['rev-parse', '--verify', 'FETCH_HEAD^{commit}'])).toString().trim()
      return head === known_head ? null : { head, skills: await readSkills(git, head) }
    } catch (error) {
      throw error instanceof GitFailed ? reasonOf(error, source) : error
    } finally {
      await rm(folder, { recursive: true, force: true, maxRetries: 3 })
    }
  }
}

/** The address as git is given it. */
function checkSource({ url, ref }: SkillSource, own_machine: boolean): string {
  const kind = addressKind(url)
  if (kind === null || (ref !== undefined && !isRef(ref)))
    throw new ReadingFailed('The environment gives no address or ref of a git repository.')
  if (kind === 'local' && !own_machine)
    throw new ReadingFailed("It is a path of a worker's disk, which the server does not read.")
  // Without somebody's ssh key only the https address of the same repository can be asked.
  const [, path] = /^(?:ssh:\/\/git@|git@)github\.com[/:](.+)$/.exec(url) ?? []
  return path === undefined || own_machine ? url : `https://github.com/${path}`
}

/** Where a login for github.com is of use: on no other host, and not where the address has one of its own. */
export const isOfGitHub = (url: string): boolean => /^(https:\/\/|(ssh:\/\/)?git@)github\.com[/:]/.test(url)

type Git = (args: string[], input?: string) => Promise<Buffer>
type Entry = { path: string; folder: string; object: string; is_link: boolean }

async function readSkills(git: Git, head: string): Promise<FoundSkill[]> {
  const listed = await git(['ls-tree', '-r', '-z', head, '--', ...SKILL_FOLDERS])
  const entries = listed.toString().split('\0').flatMap(skillEntry).sort(byFolder).slice(0, SKILLS_MAX)
  const files = entries.filter((entry) => !entry.is_link)
  const contents = await readObjects(
    git,
    files.map(({ object }) => object),
  )
  const skills: FoundSkill[] = []
  for (const entry of entries) skills.push(await skillOf(entry, contents.get(entry.object)))
  return skills
}

/** `<mode> <type> <object>\t<path>`, of a file that lies where skills lie. */
function skillEntry(line: string): Entry[] {
  const [, mode, object = '', path = ''] = /^(\d+) blob ([0-9a-f]+)\t(.+)$/s.exec(line) ?? []
  if (mode === undefined || /[\p{Cc}]/u.test(path)) return []
  const folder = SKILL_FOLDERS.find((one) => path.startsWith(`${one}/`))
  const is_skill = folder !== undefined && /^[^/]+\/SKILL\.md$/.test(path.slice(folder.length + 1))
  return is_skill ? [{ path, folder, object, is_link: mode === '120000' }] : []
}

/** In the order in which a run looks for them. */
const byFolder = (a: Entry, b: Entry): number => placeOf(a) - placeOf(b) || (a.path < b.path ? -1 : 1)
const placeOf = ({ folder }: Entry): number => (SKILL_FOLDERS as readonly string[]).indexOf(folder)

/** Absent from the answer: too large, or the server did not give it. */
async function readObjects(git: Git, objects: string[]): Promise<Map<string, Buffer>> {
  const wanted = [...new Set(objects)]
  if (wanted.length === 0) return new Map()
  const lines = `${wanted.join('\n')}\n`
  // All at once; where this fails, git fetches each as it is read.
  const quiet = ['--no-tags', '--no-write-fetch-head', '--recurse-submodules=no', '--filter=blob:none']
  await git(['-c', 'fetch.negotiationAlgorithm=noop', 'fetch', 'origin', ...quiet, '--stdin'], lines).catch(
    (error: unknown) => {
      if (!(error instanceof GitFailed)) throw error
    },
  )
  const sizes = (await git(['cat-file', '--batch-check'], lines)).toString().split('\n')
  const small = sizes.flatMap((line) => {
    const [, object = '', size] = /^([0-9a-f]+) blob (\d+)$/.exec(line) ?? []
    return size !== undefined && Number(size) <= SKILL_BYTES_MAX ? [object] : []
  })
  return splitBatch(small.length === 0 ? Buffer.alloc(0) : await git(['cat-file', '--batch'], `${small.join('\n')}\n`))
}

/** `<object> blob <size>\n<bytes>\n`, again and again. */
function splitBatch(output: Buffer): Map<string, Buffer> {
  const found = new Map<string, Buffer>()
  for (let at = 0; at < output.length; ) {
    const end = output.indexOf(10, at)
    const [object = '', , size] = output.subarray(at, end).toString().split(' ')
    if (end < 0 || size === undefined) break
    found.set(object, output.subarray(end + 1, end + 1 + Number(size)))
    at = end + 2 + Number(size)
  }
  return found
}

async function skillOf({ path, is_link }: Entry, bytes: Buffer | undefined): Promise<FoundSkill> {
  const folder = path.split('/').at(-2) ?? path
  const none = { path, name: folder, description: '', instructions: '' }
  if (is_link) return { ...none, problem: 'it is a link' }
  if (bytes === undefined) return { ...none, problem: `it is larger than ${SKILL_BYTES_MAX / 1024} KiB` }
  const skill = await parseSkillFile(bytes)
  if ('problem' in skill) return { ...none, problem: skill.problem }
  const { name, description, instructions } = skill
  const found = { path, name: name ?? folder, description: description ?? '', instructions }
  // PostgreSQL keeps neither NUL nor half of a surrogate pair, which YAML can spell.
  const is_text = Object.values(found).every((said) => !said.includes('\0') && said.isWellFormed())
  return is_text ? found : { ...none, problem: 'it has a NUL or another character that is none' }
}

class GitFailed extends Error {
  override readonly name = 'GitFailed'
}

type GitCall = { args: string[]; cwd: string; env: Record<string, string>; input: string; signal: AbortSignal }

/** In a process group of its own, which is ended whole; a limit on file size holds for all of it. */
function runGit({ args, cwd, env, input, signal }: GitCall): Promise<Buffer> {
  const limit = `ulimit -f ${PACK_BYTES_MAX / 512} && exec git "$@"`
  const child = spawn('sh', ['-c', limit, 'sh', ...args], { cwd, env, stdio: ['pipe', 'pipe', 'pipe'], detached: true })
  const end = () => {
    if (child.pid === undefined) return
    try {
      process.kill(-child.pid, 'SIGKILL')
    } catch {
      // It has ended by itself.
    }
  }
  const chunks: Buffer[] = []
  let bytes = 0
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > OUTPUT_BYTES_MAX) end()
    else chunks.push(chunk)
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-4096)
  })
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  signal.addEventListener('abort', end)
  return new Promise<Buffer>((resolve, reject) => {
    child.once('error', (error) => reject(new GitFailed(error.message)))
    child.once('close', (code) => {
      if (code === 0) resolve(Buffer.concat(chunks))
      else reject(new GitFailed(signal.aborted ? 'timed out' : said.trim()))
    })
    if (signal.aborted) end()
  }).finally(() => signal.removeEventListener('abort', end))
}

const safeConfig = (own_machine: boolean): string[] =>
  [
    'protocol.allow=never',
    'protocol.https.allow=always',
    'protocol.ssh.allow=always',
    ...(own_machine ? ['protocol.file.allow=always'] : []),
    'core.hooksPath=/dev/null',
    'core.fsmonitor=false',
    'core.askPass=',
    'gc.auto=0',
    'maintenance.auto=false',
    'transfer.bundleURI=false',
    'http.followRedirects=initial',
  ].flatMap((setting) => ['-c', setting])

const PASSED = /^(PATH|TMPDIR|GIT_SSL_CAINFO|SSL_CERT_(FILE|DIR)|(https?|all|no)_proxy)$/i
const OWN_PASSED = /^(HOME|USER|LOGNAME|SSH_AUTH_SOCK|XDG_CONFIG_HOME)$/

function gitEnvironment({ env, own_machine }: SkillReaderOptions, folder: string): Record<string, string> {
  const passed = Object.entries(env).filter(
    (pair): pair is [string, string] =>
      pair[1] !== undefined && (PASSED.test(pair[0]) || (own_machine && OWN_PASSED.test(pair[0]))),
  )
  const ssh = 'ssh -o BatchMode=yes -o ConnectTimeout=10'
  const nobody = {
    HOME: folder,
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_SSH_COMMAND: `${ssh} -F /dev/null -o IdentityAgent=none -o IdentityFile=/dev/null`,
  }
  return {
    ...Object.fromEntries(passed),
    ...(own_machine ? { GIT_SSH_COMMAND: ssh } : nobody),
    GIT_TERMINAL_PROMPT: '0',
    GIT_ASKPASS: '',
    SSH_ASKPASS: '',
    LC_ALL: 'C',
  }
}

/** Given by the environment of git: arguments of processes can be listed by others. */
function takeLogin(url: string, github_token: string | null): { url: string; login: Record<string, string> } {
  const [, user, host] = /^https:\/\/(?:([^@/]*)@)?([^/]+)\//i.exec(url) ?? []
  const github = host === 'github.com' && github_token !== null ? `x-access-token:${github_token}` : undefined
  const said = user === undefined ? github : decoded(user)
  if (host === undefined || said === undefined) return { url, login: {} }
  return {
    url: withoutSecret(url),
    login: {
      GIT_CONFIG_COUNT: '1',
      GIT_CONFIG_KEY_0: `http.https://${host}/.extraHeader`,
      GIT_CONFIG_VALUE_0: `Authorization: Basic ${Buffer.from(said.includes(':') ? said : `${said}:`).toString('base64')}`,
    },
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

function reasonOf({ message }: GitFailed, { url, ref, github_token }: SkillSource): ReadingFailed {
  const has_login = github_token !== null || url !== withoutSecret(url)
  const known = TROUBLES.find(({ says }) => says.test(message))
  const line = message.split('\n').find((one) => /^(fatal|error|ssh):/.test(one)) ?? message.split('\n').at(-1) ?? ''
  return new ReadingFailed(
    `It cannot be read: ${known?.reason(ref, has_login) ?? `git says: ${line.slice(0, 300).replace(/\.+$/, '')}.`}`,
  )
}

/** The first that fits. */
const TROUBLES: { says: RegExp; reason: (ref: string | undefined, has_login: boolean) => string }[] = [
  {
    says: /timed out/i,
    reason: () => `it took longer than ${READING_MS / 1000} seconds, or its host does not answer.`,
  },
  { says: /ENOENT/, reason: () => 'the server has no git. Install git there.' },
  {
    says: /couldn't find remote ref|not our ref/i,
    reason: (ref) => `it has no branch, tag or commit "${ref ?? 'HEAD'}".`,
  },
  {
    says: /error: 429|too many requests|rate limit/i,
    reason: () => 'its host takes no more requests for now. It is read again later.',
  },
  {
    says: /could not read (Usern|Passw)|Authentication failed|Permission denied|error: 40[134]|not found/i,
    reason: (_, has_login) =>
      has_login
        ? 'there is none at this address, or the login that the environment gives does not open it.'
        : 'there is none at this address, or it asks for a login that the environment does not give.',
  },
  { says: /Could not resolve host/i, reason: () => 'its host cannot be found.' },
  { says: /Failed to connect|Connection (refused|reset|timed out)/i, reason: () => 'its host does not answer.' },
  { says: /does not appear to be a git repository/i, reason: () => 'there is no repository at this address.' },
  {
    says: /File size limit|SIGXFSZ|signal 25/i,
    reason: () => `it is larger than ${PACK_BYTES_MAX / 1024 / 1024} MiB.`,
  },
]
