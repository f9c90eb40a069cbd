/**
 * What the command line is told, and by whom. A flag goes before the environment, then the project's `.baton.json`,
 * then the profile, then the default.
 *
 * A project's file comes with a repository, so it cannot be trusted with where keys go: it chooses among the user's
 * profiles and sets tastes, never a server or a key. A profile's key is sent to that profile's server alone.
 */
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { CommandFailure } from './exits.ts'
import { writePrivate } from './private-file.ts'

export const OUTPUT_FORMATS = ['text', 'pretty', 'json', 'ndjson'] as const
export const OutputFormat = z.enum(OUTPUT_FORMATS)
export type OutputFormat = z.infer<typeof OutputFormat>

export const DEFAULT_PORT = 4577
export const DEFAULT_SERVER = `http://127.0.0.1:${DEFAULT_PORT}`
export const PROJECT_FILE = '.baton.json'

export const Profile = z.object({
  server: z.url({ protocol: /^https?$/ }),
  api_key: z.string().optional(),
  output_format: OutputFormat.optional(),
  harness: z.string().optional(),
  model: z.string().optional(),
  worker_host: z.string().optional(),
})
export type Profile = z.infer<typeof Profile>

export const ConfigFile = z.object({
  current_profile: z.string().default('default'),
  profiles: z.record(z.string(), Profile).default({}),
})
export type ConfigFile = z.infer<typeof ConfigFile>

const ProjectFile = z.object({
  profile: z.string().optional(),
  output_format: OutputFormat.optional(),
  harness: z.string().optional(),
  model: z.string().optional(),
  worker_host: z.string().optional(),
})

export type Environment = Record<string, string | undefined>

export const ENVIRONMENT = {
  profile: ['BATON_PROFILE'],
  server: ['BATON_SERVER', 'WARP_SERVER_ROOT_URL'],
  api_key: ['BATON_API_KEY', 'WARP_API_KEY'],
  output_format: ['BATON_OUTPUT_FORMAT', 'WARP_OUTPUT_FORMAT'],
  harness: ['BATON_HARNESS'],
  model: ['BATON_MODEL'],
  worker_host: ['BATON_WORKER_HOST'],
} as const
export type SettingName = keyof typeof ENVIRONMENT

export type Setting = { value: string | undefined; from: string }
export type Settings = Record<SettingName, Setting> & { config_path: string; config: ConfigFile }

export function configPath(env: Environment): string {
  return env.BATON_CONFIG || join(env.XDG_CONFIG_HOME || join(env.HOME || '/', '.config'), 'baton', 'config.json')
}

/** `$XDG_DATA_HOME/baton`. */
export function dataFolder(env: Environment): string {
  return env.BATON_DATA_DIR || join(env.XDG_DATA_HOME || join(env.HOME || '/', '.local', 'share'), 'baton')
}

export function cacheFolder(env: Environment): string {
  return join(env.XDG_CACHE_HOME || join(env.HOME || '/', '.cache'), 'baton')
}

export async function readConfig(path: string): Promise<ConfigFile> {
  return (await readJsonFile(path, ConfigFile)) ?? { current_profile: 'default', profiles: {} }
}

export async function writeConfig(path: string, config: ConfigFile): Promise<void> {
  await writePrivate(path, `${JSON.stringify(config, null, 2)}\n`)
}

const FLAGS: Partial<Record<SettingName, string>> = { profile: '--config-profile' }

export type Flags = Partial<Record<SettingName, string | undefined>>

/** Reads what there is; refuses files and values that cannot be understood, by name. */
export async function resolveSettings(flags: Flags, env: Environment, cwd: string): Promise<Settings> {
  const config_path = configPath(env)
  const config = await readConfig(config_path)
  const project = await findProject(cwd)
  const asked = pick('profile', flags, env, project)
  const profile_name = asked ?? { value: config.current_profile, from: 'default' }
  const profile = config.profiles[profile_name.value ?? '']
  if (asked?.value !== undefined && profile === undefined) {
    throw new CommandFailure(
      'usage',
      `There is no profile "${asked.value}" (named by ${asked.from}).`,
      `Make it with: baton login --config-profile ${asked.value}`,
    )
  }
  const source = `profile ${profile_name.value}`
  const one = (name: SettingName, fallback: string | undefined): Setting =>
    pick(name, flags, env, project) ?? fromProfile(profile, name, source) ?? { value: fallback, from: 'default' }
  const server = checkServer(one('server', DEFAULT_SERVER))
  return {
    config_path,
    config,
    profile: profile_name,
    server,
    api_key: pick('api_key', flags, env) ?? keyFor(server, config, profile_name.value ?? ''),
    output_format: checkFormat(one('output_format', undefined)),
    harness: one('harness', undefined),
    model: one('model', undefined),
    worker_host: one('worker_host', undefined),
  }
}

type Project = { path: string; values: z.infer<typeof ProjectFile> } | null

function pick(name: SettingName, flags: Flags, env: Environment, project: Project = null): Setting | undefined {
  if (flags[name] !== undefined) return { value: flags[name], from: FLAGS[name] ?? `--${name.replaceAll('_', '-')}` }
  for (const variable of ENVIRONMENT[name]) if (env[variable]) return { value: env[variable], from: variable }
  const value = project && name !== 'server' && name !== 'api_key' ? project.values[name] : undefined
  return project && value !== undefined ? { value, from: project.path } : undefined
}

function fromProfile(profile: Profile | undefined, name: SettingName, from: string): Setting | undefined {
  const value = profile && name !== 'profile' ? profile[name] : undefined
  return value === undefined ? undefined : { value, from }
}

/** The chosen profile's key where the server is its own, else that of any profile made for this server. */
function keyFor(server: Setting, config: ConfigFile, chosen: string): Setting {
  const names = [chosen, ...Object.keys(config.profiles).filter((name) => name !== chosen)]
  for (const name of names) {
    const profile = config.profiles[name]
    if (profile?.api_key && sameServer(profile.server, server.value ?? ''))
      return { value: profile.api_key, from: `profile ${name}` }
  }
  return { value: undefined, from: 'default' }
}

export const sameServer = (a: string, b: string): boolean => a.replace(/\/+$/, '') === b.replace(/\/+$/, '')

function checkServer(server: Setting): Setting {
  const value = (server.value ?? '').replace(/\/+$/, '').replace(/\/api\/v1$/, '')
  const url = URL.canParse(value) ? new URL(value) : null
  if (url && (url.protocol === 'http:' || url.protocol === 'https:')) return { value, from: server.from }
  throw new CommandFailure(
    'usage',
    `"${server.value}" (from ${server.from}) is not the address of a server.`,
    `Give it as http://host:port, such as ${DEFAULT_SERVER}.`,
  )
}

function checkFormat(format: Setting): Setting {
  if (format.value === undefined || OutputFormat.safeParse(format.value).success) return format
  throw new CommandFailure(
    'usage',
    `"${format.value}" (from ${format.from}) is not an output format.`,
    `Choose one of ${OUTPUT_FORMATS.join(', ')}.`,
  )
}

async function findProject(cwd: string): Promise<Project> {
  for (let folder = cwd; ; folder = dirname(folder)) {
    const path = join(folder, PROJECT_FILE)
    const values = await readJsonFile(path, ProjectFile)
    if (values) return { path, values }
    if (dirname(folder) === folder) return null
  }
}

async function readJsonFile<T extends z.ZodType>(path: string, schema: T): Promise<z.output<T> | null> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'ENOENT' || code === 'ENOTDIR') return null
    throw new CommandFailure(
      'failed',
      `${path} cannot be read (${String(code)}).`,
      'Check who owns it and its permissions.',
    )
  }
  try {
    return schema.parse(JSON.parse(text))
  } catch (error) {
    const why =
      error instanceof z.ZodError
        ? error.issues.map((i) => `${i.path.join('.')}: ${i.message}`).join('; ')
        : 'it is not JSON'
    throw new CommandFailure('failed', `${path} cannot be understood: ${why}.`, 'Repair or remove the file.')
  }
}
