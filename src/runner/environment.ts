/**
 * The environment that setup commands and the harness get.
 *
 * Managed: what is named here, the run's own variables, and Baton's public names; an allow-list, so that a worker's
 * secrets do not leak by being forgotten. Local: the person's own environment. Never Baton's own tokens, but that of
 * the execution itself, for the harness of a managed run alone.
 */
import { isAbsolute } from 'node:path'
import {
  type Assignment,
  type GivenSecrets,
  harnessOf,
  MACHINE_VARIABLES,
  PROVIDER_VARIABLES,
} from '../contract/index.ts'

/** Of a run as a whole. */
const PASSED = [
  ...MACHINE_VARIABLES,
  'TASK_ID',
  'GH_PROMPT_DISABLED',
  'GIT_TERMINAL_PROMPT',
  // Which run it is, for whoever is told so by more than its word.
  'WARP_WORKLOAD_TOKEN',
]
/** Locale, and where models are and how to reach them. */
const PASSED_PREFIXES = [
  'LC_',
  'ANTHROPIC_',
  'OPENAI_',
  'GEMINI_',
  'GOOGLE_',
  'VERTEX_',
  'AZURE_OPENAI_',
  'MISTRAL_',
  'GROQ_',
  'XAI_',
  'DEEPSEEK_',
  'OPENROUTER_',
  'CLAUDE_CODE_',
  'CODEX_',
  'OPENCODE_',
  'BATON_MODEL_',
  'BATON_HARNESS_',
]
/** `BATON_PASS_NAME=value` hands `NAME=value` to every run of a worker. */
const PASS_PREFIX = 'BATON_PASS_'

/** Of a runner, not of what it runs: its children beside it get their own. */
const IDENTITY = ['TASK_ID', 'BATON_EXECUTION_ID', 'OZ_PARENT_RUN_ID', 'WARP_PARENT_RUN_ID', 'WARP_WORKLOAD_TOKEN']

const OWN_TOKENS = [
  ...['WARP_API_KEY', 'BATON_API_KEY', 'OZ_API_KEY', 'BATON_EXECUTION_TOKEN'],
  ...['BATON_SECRET_KEY', 'BATON_SECRET_KEY_FILE'],
]

const AWS_KEYS = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN', 'AWS_PROFILE']
/** By which Claude Code would ask for models elsewhere than at Bedrock by its role. */
const MODELS_ELSEWHERE = [
  'AWS_BEARER_TOKEN_BEDROCK',
  ...PROVIDER_VARIABLES.filter(([key]) => key === 'ANTHROPIC_API_KEY').flat(),
]

export type Surroundings = Record<string, string | undefined>

export function harnessEnvironment(
  assignment: Assignment,
  surroundings: Surroundings,
  place: 'managed' | 'local',
  workspace: string,
): Record<string, string> {
  const env: Record<string, string> = {}
  for (const [name, value] of Object.entries(surroundings)) {
    if (value === undefined) continue
    if (place === 'local' || PASSED.includes(name) || PASSED_PREFIXES.some((prefix) => name.startsWith(prefix)))
      env[name] = value
    if (place === 'managed' && name.startsWith(PASS_PREFIX) && name.length > PASS_PREFIX.length)
      env[name.slice(PASS_PREFIX.length)] = value
  }
  Object.assign(
    env,
    secretVariables(assignment.secrets, env),
    assignment.config.environment?.variables,
    publicNames(assignment, workspace, cliProgram(surroundings)),
  )
  for (const name of OWN_TOKENS) {
    // A variable that the run itself was given under such a name is the user's own.
    if (assignment.config.environment?.variables[name] === undefined) delete env[name]
  }
  return env
}

/**
 * What goes over the worker's own: what it does not set itself, and what the run names for its harness. Of a provider
 * both come from the same side, or a key would be sent to another's address. Removes from `worker` what gives way.
 */
function secretVariables(secrets: GivenSecrets | undefined, worker: Record<string, string>): Record<string, string> {
  if (secrets === undefined) return {}
  const { variables, chosen } = secrets
  const replaced = PROVIDER_VARIABLES.filter(
    (names) =>
      names.some((name) => name in chosen) || (names[0] === 'ANTHROPIC_API_KEY' && 'CLAUDE_CODE_USE_BEDROCK' in chosen),
  ).flat()
  for (const name of replaced) delete worker[name]
  const kept = PROVIDER_VARIABLES.filter(([key]) => key in worker).flat()
  const own = Object.entries(variables).filter(
    ([name]) => !Object.hasOwn(worker, name) && !kept.includes(name) && !replaced.includes(name),
  )
  return { ...Object.fromEntries(own), ...chosen }
}

/**
 * With what a run logs in to clouds by, which goes before keys that nobody chose for it: SDKs of AWS would take a key
 * before a role. What the run sets itself, and the key that it names for its harness, stay.
 */
export function withLogin(
  env: Record<string, string>,
  { config, secrets }: Assignment,
  login: Record<string, string>,
): Record<string, string> {
  const own = { ...secrets?.chosen, ...config.environment?.variables }
  const models = 'CLAUDE_CODE_USE_BEDROCK' in login ? MODELS_ELSEWHERE : []
  const gives_way = ['AWS_ROLE_ARN' in login ? AWS_KEYS : [], models, Object.keys(login)].flat()
  const kept = Object.entries(env).filter(([name]) => name in own || !gives_way.includes(name))
  const added = Object.entries(login).filter(([name]) => !(name in own))
  return Object.fromEntries([...kept, ...added])
}

/** What lets a program inside a sandbox speak for its own run (`baton run message …`): the execution's token. */
export const ownAccess = (token: string, server: string): Record<string, string> => ({
  WARP_API_KEY: token,
  WARP_SERVER_ROOT_URL: server,
})

/** What a runner beside this one starts with, before what its own assignment says. */
export function surroundingsBeside(surroundings: Surroundings): Record<string, string> {
  const env = Object.entries(surroundings).filter((pair): pair is [string, string] => pair[1] !== undefined)
  return Object.fromEntries(env.filter(([name]) => !OWN_TOKENS.includes(name) && !IDENTITY.includes(name)))
}

/** The file that starts Baton: `BATON_CLI`, or that which was started. */
export const cliEntry = (surroundings: Surroundings): string | undefined => surroundings.BATON_CLI || process.argv[1]

/** As a program to call from a shell; by name where the file is not one. */
function cliProgram(surroundings: Surroundings): string {
  const entry = cliEntry(surroundings)
  return entry !== undefined && /(^|\/)baton(\.js)?$/.test(entry) && isAbsolute(entry) ? entry : 'baton'
}

/** What a program inside the run may rely on: the public Oz names, their older twins, and ours. */
function publicNames(assignment: Assignment, workspace: string, program: string): Record<string, string> {
  const { run_id, parent_run_id, config } = assignment
  const harness = harnessOf(config)
  return {
    OZ_RUN_ID: run_id,
    WARP_RUN_ID: run_id,
    BATON_RUN_ID: run_id,
    // By this a worker knows the processes of an execution.
    BATON_EXECUTION_ID: assignment.execution_id,
    OZ_CLI: program,
    WARP_CLI: program,
    OZ_HARNESS: harness,
    WARP_HARNESS: harness,
    BATON_WORKSPACE: workspace,
    BATON_EXECUTION_NUMBER: String(assignment.number),
    ...(parent_run_id === null ? {} : { OZ_PARENT_RUN_ID: parent_run_id, WARP_PARENT_RUN_ID: parent_run_id }),
  }
}
