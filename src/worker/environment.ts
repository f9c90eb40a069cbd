/** The environment of a runner: little of the worker's own, what the assignment says, and what the platform sets. */
import { MACHINE_VARIABLES, PROVIDER_VARIABLES, type TaskAssignment } from '../contract/index.ts'
import type { Environment } from './models.ts'

/** `BATON_…`: what the owner of the worker means for runners and harnesses: which there are, and what all runs get. */
const PASSED_PREFIX = /^(LC_|BATON_PASS_|BATON_HARNESS|BATON_SCRIPT$)/

export type RunnerEnvironment = {
  /** The worker's own. */
  worker: Environment
  /** What the one who starts the worker wants every runner to have. */
  runner: Record<string, string>
  /** From `modelEnvironment`. */
  models: Record<string, string>
  assignment: TaskAssignment
  server: string
  allow_local_repositories: boolean
}

export function runnerEnvironment(parts: RunnerEnvironment): Record<string, string> {
  const { env_vars, task_id } = parts.assignment
  return {
    ...passedOn(parts.worker),
    ...parts.runner,
    ...withoutOwn(parts.models, env_vars),
    ...env_vars,
    GIT_TERMINAL_PROMPT: '0',
    GH_PROMPT_DISABLED: '1',
    TASK_ID: task_id,
    WARP_SERVER_ROOT_URL: parts.server,
    ...(parts.allow_local_repositories ? { BATON_ALLOW_LOCAL_REPOSITORIES: '1' } : {}),
  }
}

function passedOn(worker: Environment): Record<string, string> {
  const passed: Record<string, string> = {}
  for (const [name, value] of Object.entries(worker)) {
    if (value !== undefined && (MACHINE_VARIABLES.includes(name) || PASSED_PREFIX.test(name))) passed[name] = value
  }
  return passed
}

function withoutOwn(models: Record<string, string>, env_vars: Record<string, string>): Record<string, string> {
  const own = PROVIDER_VARIABLES.filter((names) => names.some((name) => name in env_vars)).flat()
  return Object.fromEntries(Object.entries(models).filter(([name]) => !own.includes(name)))
}
