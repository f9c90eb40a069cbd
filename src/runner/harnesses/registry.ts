/** Every harness there is, by name: those built in, and ACP agents from the configuration (BATON_HARNESSES). */
import { join } from 'node:path'
import { z } from 'zod'
import { entryOf, HarnessName, harnessNamed } from '../../contract/index.ts'
import { cliEntry } from '../environment.ts'
import { baton } from './baton.ts'
import { claude } from './claude.ts'
import { codex } from './codex.ts'
import { command } from './command.ts'
import { gemini } from './gemini.ts'
import { type Harness, HarnessFailure, type HarnessStart } from './harness.ts'
import { opencode } from './opencode.ts'
import { missingCli, missingLogin, unknownHarness } from './problems.ts'
import { chosenModel, type Executable, findExecutable, hasLogin, type Profile } from './profile.ts'

/** The ACP harnesses that Baton knows, for `harness list|install|test`. */
export const profiles: readonly Profile[] = [baton, claude, codex, gemini, opencode]

const Configured = z.record(
  HarnessName,
  z.object({
    command: z.string().min(1),
    args: z.array(z.string()).optional(),
    env: z.record(z.string(), z.string()).default({}),
    tool_hold_ms: z.int().positive().optional(),
    joins_prompt_to_running_turn: z.boolean().optional(),
    session_folders: z.array(z.string().regex(/^[\w-][\w.-]*(\/[\w-][\w.-]*)*$/)).optional(),
  }),
)
export type Configured = z.infer<typeof Configured>

type Environment = Record<string, string | undefined>

/**
 * `env` is the runner's own environment, read for
 *  - `BATON_HARNESSES`: JSON of `{name: {command, args, env, tool_hold_ms, joins_prompt_to_running_turn,
 *    session_folders}}`: agents of the owner's own, or another program for a known name; `{home}` in a value of `env`
 *    is the private folder of the execution, below which the session folders are;
 *  - `BATON_HARNESS_CACHE`: where fetched harnesses are (else below XDG_CACHE_HOME or HOME);
 *  - `BATON_CLI`: the file that starts Baton.
 * Throws a `HarnessFailure` for a name that nobody knows.
 */
export function findHarness(name: string, env: Environment): Harness {
  const wanted = harnessNamed(name)
  if (wanted === 'command') return command
  const configured = readConfigured(env)
  const profile = profiles.find((p) => p.name === wanted)
  if (profile !== undefined) return profileHarness(profile, env, entryOf(configured, wanted))
  const own = entryOf(configured, wanted)
  if (own !== undefined) return profileHarness(customProfile(wanted, own), env, own)
  throw unknownHarness(name, [...profiles.map((p) => p.name), 'command', ...Object.keys(configured)])
}

/** Those that Baton knows, and the owner's own of `BATON_HARNESSES`. */
export function knownProfiles(env: Environment): Profile[] {
  const own = Object.entries(readConfigured(env)).filter(([name]) => profiles.every((profile) => profile.name !== name))
  return [...profiles, ...own.map(([name, configured]) => customProfile(name, configured))]
}

export function harnessCache(env: Environment): string | null {
  if (env.BATON_HARNESS_CACHE) return env.BATON_HARNESS_CACHE
  const base = env.XDG_CACHE_HOME || (env.HOME ? join(env.HOME, '.cache') : null)
  return base === null ? null : join(base, 'baton', 'harnesses')
}

export function readConfigured(env: Environment): Configured {
  if (!env.BATON_HARNESSES) return {}
  let parsed: unknown
  try {
    parsed = JSON.parse(env.BATON_HARNESSES)
  } catch {
    throw misconfigured('it is not JSON')
  }
  const result = Configured.safeParse(parsed)
  if (!result.success) throw misconfigured(z.prettifyError(result.error))
  return result.data
}

/** How the harness would be started; null where its program is missing. */
export function locate(profile: Profile, env: Environment, configured: Configured): Executable | null {
  const own = entryOf(configured, profile.name)
  const known = ownStrings(env)
  const given = own === undefined ? undefined : own.command
  const found =
    profile === baton && given === undefined ? builtIn(env) : findExecutable(profile, known, harnessCache(env), given)
  return found === null || own?.args === undefined
    ? found
    : { ...found, args: [...found.args.slice(0, found.args.length - profile.args.length), ...own.args] }
}

function profileHarness(profile: Profile, env: Environment, own: Configured[string] | undefined): Harness {
  const configured = own === undefined ? {} : { [profile.name]: own }
  return {
    name: profile.name,
    tool_hold_ms: own?.tool_hold_ms ?? profile.tool_hold_ms,
    session_folders: own?.session_folders ?? profile.session_folders,
    moveSession: profile.moveSession,
    async open(start) {
      const found = locate(profile, { ...env, PATH: start.env.PATH ?? env.PATH }, configured)
      if (found === null) throw missingCli(profile.title, own?.command ?? profile.command, installHint(profile, own))
      const model_id = chosenModel(start.assignment)
      if (!hasLogin(profile, start.env, model_id) && own === undefined)
        throw missingLogin(profile.title, profile.login.how)
      const { acpHarness } = await import('./acp.ts')
      const harness = acpHarness(profile.name, async (its: HarnessStart) => {
        const prepared = await profile.prepare({
          env: its.env,
          home: its.home,
          workspace: its.workspace,
          permissions: its.permissions,
          mcp: its.mcp,
          model_id,
          reasoning_level: its.config.harness?.reasoning_level || null,
        })
        const { env: put, ...plan } = prepared
        return {
          title: profile.title,
          login_how: profile.login.how,
          joins: own?.joins_prompt_to_running_turn ?? profile.joins_prompt_to_running_turn,
          ...(profile.forgets_interrupted_turn && { forgets_interrupted_turn: true }),
          modes: profile.modes,
          file: found.file,
          args: found.args,
          env: { ...its.env, ...put, ...placed(own?.env ?? {}, its.home) },
          ...plan,
        }
      })
      return harness.open(start)
    },
  }
}

const placed = (env: Record<string, string>, home: string): Record<string, string> =>
  Object.fromEntries(Object.entries(env).map(([name, value]) => [name, value.replaceAll('{home}', home)]))

function builtIn(env: Environment): Executable | null {
  const entry = cliEntry(env)
  return entry === undefined ? null : { file: process.execPath, args: [entry, ...baton.args], found: entry }
}

/** An ACP agent that Baton knows nothing of but its command. */
const customProfile = (name: string, { command, args }: Configured[string]): Profile => ({
  name,
  title: name,
  aliases: [],
  packages: [],
  command,
  installed: [],
  args: args ?? [],
  modes: { allow: [], deny: [] },
  login: { variables: [], files: () => [], keychain: false, how: `Log in to ${name} there as the same user.` },
  session_folders: [],
  tool_hold_ms: 30_000,
  joins_prompt_to_running_turn: false,
  prepare: async () => ({ env: {} }),
})

function installHint(profile: Profile, own: Configured[string] | undefined): string {
  if (own !== undefined) return 'Correct its command in BATON_HARNESSES.'
  return profile.packages.length === 0
    ? 'Install it there.'
    : `Run \`baton harness install ${profile.name}\` there as the same user.`
}

const misconfigured = (why: string): HarnessFailure =>
  new HarnessFailure({
    error_code: 'operation_not_supported',
    retryable: false,
    reason: 'harness_configuration',
    message: `BATON_HARNESSES cannot be read: ${why}. It is JSON like {"mine":{"command":"/usr/bin/agent","args":["acp"],"env":{}}}.`,
  })

const ownStrings = (env: Environment): Record<string, string> =>
  Object.fromEntries(Object.entries(env).filter((pair): pair is [string, string] => pair[1] !== undefined))
