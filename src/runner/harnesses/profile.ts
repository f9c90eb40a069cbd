/**
 * A profile: what Baton knows of one ACP harness, as data. It says how to find and start the program, how a model, a
 * key and an address reach it, what stands in for a login, and its quirks.
 *
 * Model access arrives in the environment in the providers' own variables (ANTHROPIC_*, OPENAI_*, GEMINI_* and
 * GOOGLE_GEMINI_BASE_URL, BATON_MODEL_*). Where a key or an address is there, `prepare` gives the harness a private
 * configuration below `home`, in which nothing from the checkout can change them. Where neither is, the harness is
 * started with its owner's own configuration and login, untouched.
 */
import { accessSync, constants, existsSync, realpathSync, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { Assignment, PermissionPolicy } from '../../contract/index.ts'
import type { McpEndpoint } from './harness.ts'
import type { ReadSessionUsage } from './session-usage.ts'

export type Place = {
  env: Record<string, string>
  home: string
  workspace: string
  /** Null: the harness's own choice. */
  model_id: string | null
  reasoning_level: string | null
  permissions: PermissionPolicy
  /** Baton's own MCP servers of this session. */
  mcp: McpEndpoint[]
}

export type Prepared = {
  /** Put over the environment that arrived. */
  env: Record<string, string>
  /** `_meta` of `session/new`, `session/load` and `session/resume`. */
  session_meta?: Record<string, unknown>
  /** Baton's own MCP servers are in `session_meta` or its configuration; the session is not told of them twice. */
  mcp_in_meta?: boolean
  /** The working folder as the session is told it; `workspace` where absent. */
  session_cwd?: string
  /** For a harness that says less of its tokens than it knows. */
  session_usage?: ReadSessionUsage
  /** The ACP method to authenticate with; none where the harness finds its key itself. */
  auth_method?: string
}

export type Profile = {
  name: string
  title: string
  aliases: string[]
  /** `name@version` on npm: what `baton harness install` fetches. Empty: nothing to fetch. */
  packages: string[]
  /** The program on PATH. */
  command: string
  /** The same program in a fetched copy, below `<cache>/<name>/node_modules/`; the first that is there is used. */
  installed: string[]
  args: string[]
  /** Session modes to ask for by policy, best first; one that the harness does not offer is passed over. */
  modes: Record<PermissionPolicy, string[]>
  login: {
    /** Any of these in the environment is a login. */
    variables: string[]
    /** Any of these files is a login. */
    files(env: Record<string, string>): string[]
    /** Login may also lie in the system's keychain, which cannot be looked into cheaply (macOS). */
    keychain: boolean
    /** Models that need none. */
    needless_for?: string[]
    /** What to do: the exact commands. */
    how: string
  }
  /**
   * Folders and files below `home` that hold its sessions: what is kept for a resume elsewhere. Nothing with a key, a
   * login or a setting lies in them. Empty where it cannot resume.
   */
  session_folders: string[]
  /** Makes a session that was put back below `home` one of this workspace, where the harness would go by the old one. */
  moveSession?(home: string, workspace: string): Promise<void>
  /** The longest that it lets a tool call of an MCP server take, in milliseconds, with some room. */
  tool_hold_ms: number
  /** A prompt sent during a turn is joined to that turn. */
  joins_prompt_to_running_turn: boolean
  /** A turn that is interrupted while the model's answer is awaited is gone from its session, its prompt as well. */
  forgets_interrupted_turn?: boolean
  prepare(place: Place): Promise<Prepared>
}

export type Executable = { file: string; args: string[]; found: string }

/** The model that a run names; null for the harness's own choice. */
export const chosenModel = ({ config }: Assignment): string | null => {
  const model = config.harness?.model_id ?? config.model_id ?? null
  return model === null || model === '' || model === 'auto' ? null : model
}

/** `configured`: a path or name given by the owner, which is then the only one looked for. */
export function findExecutable(
  profile: Profile,
  env: Record<string, string>,
  cache_dir: string | null,
  configured?: string,
): Executable | null {
  if (configured !== undefined)
    return executable(configured.includes('/') ? existing(configured) : onPath(configured, env), profile.args)
  const fetched =
    cache_dir === null ? [] : profile.installed.map((path) => join(cache_dir, profile.name, 'node_modules', path))
  const found = onPath(profile.command, env) ?? fetched.find((path) => existing(path) !== null) ?? null
  return executable(found, profile.args)
}

export const hasLogin = (profile: Profile, env: Record<string, string>, model_id: string | null = null): boolean =>
  (model_id !== null && profile.login.needless_for?.includes(model_id) === true) ||
  profile.login.variables.some((name) => (env[name] ?? '') !== '') ||
  profile.login.files(env).some((path) => existsSync(path)) ||
  (profile.login.keychain && process.platform === 'darwin')

/** Scripts are run by this very Node, which is new enough for all of them; the one on PATH may not be. */
function executable(found: string | null, args: string[]): Executable | null {
  if (found === null) return null
  const real = realpathSync(found)
  return /\.[cm]?js$/.test(real)
    ? { file: process.execPath, args: [real, ...args], found }
    : { file: found, args, found }
}

export function onPath(name: string, env: Record<string, string>): string | null {
  for (const folder of (env.PATH ?? '').split(delimiter)) {
    const path = folder === '' ? null : existing(join(folder, name))
    if (path !== null) return path
  }
  return null
}

function existing(path: string): string | null {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile() ? path : null
  } catch {
    return null
  }
}

export const homeOf = (env: Record<string, string>): string => env.HOME ?? '/nonexistent'

/** The OpenAI convention has the version in the address; an address without any path gets it. */
export function openaiBase(url: string | undefined): string {
  if (url === undefined || url === '') return 'https://api.openai.com/v1'
  return new URL(url).pathname === '/' ? `${url.replace(/\/$/, '')}/v1` : url.replace(/\/$/, '')
}

export const isSet = (env: Record<string, string>, ...names: string[]): boolean =>
  names.some((name) => (env[name] ?? '') !== '')

/** Proxies that the platform set, or none: said outright where settings in the checkout could set others. */
export const proxies = (env: Record<string, string>): Record<string, string> => {
  const names = [
    'HTTP_PROXY',
    'HTTPS_PROXY',
    'ALL_PROXY',
    'NO_PROXY',
    'http_proxy',
    'https_proxy',
    'all_proxy',
    'no_proxy',
  ]
  return Object.fromEntries(names.map((name) => [name, env[name] ?? '']))
}
