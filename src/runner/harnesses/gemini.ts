/**
 * Gemini CLI, which speaks ACP itself.
 *
 * Enforced against the checkout: its settings are hidden from Gemini (`GUARD`), since it takes settings above them,
 * those of the system, from root's files alone; a `.env` of the checkout does not replace a variable that is set,
 * and the address is always set. The workspace has to be trusted, or Gemini refuses mode `yolo`.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { homeOf, isSet, type Profile } from './profile.ts'

const LOGIN_VARIABLES = ['GEMINI_API_KEY', 'GOOGLE_API_KEY']

export const gemini: Profile = {
  name: 'gemini',
  title: 'Gemini CLI',
  aliases: [],
  packages: ['@google/gemini-cli@0.61.0'],
  command: 'gemini',
  installed: ['@google/gemini-cli/bundle/gemini.js'],
  args: ['--acp'],
  modes: { allow: ['yolo', 'autoEdit'], deny: ['default'] },
  login: {
    variables: [...LOGIN_VARIABLES, 'GOOGLE_GENAI_USE_VERTEXAI'],
    files: (env) => [join(homeOf(env), '.gemini', 'oauth_creds.json')],
    keychain: false,
    how: 'Run `gemini` there once as the same user and log in, or set GEMINI_API_KEY for the worker.',
  },
  // Its `session/load` fails in ACP mode (0.61).
  session_folders: [],
  tool_hold_ms: 30_000,
  joins_prompt_to_running_turn: false,
  // 0.61 rolls its history back to where the prompt began.
  forgets_interrupted_turn: true,
  async prepare({ env, home, model_id }) {
    const quiet = {
      GEMINI_CLI_TRUST_WORKSPACE: 'true',
      GEMINI_CLI_NO_RELAUNCH: 'true',
      GEMINI_TELEMETRY_ENABLED: 'false',
      NO_BROWSER: 'true',
      ...(model_id === null ? {} : { GEMINI_MODEL: model_id }),
    }
    if (!isSet(env, 'GOOGLE_GEMINI_BASE_URL', ...LOGIN_VARIABLES)) return { env: quiet }
    const folder = join(home, 'gemini')
    const guard = join(folder, 'guard.cjs')
    await mkdir(join(folder, '.gemini'), { recursive: true, mode: 0o700 })
    await writeFile(join(folder, '.gemini', 'settings.json'), JSON.stringify(SETTINGS), { mode: 0o600 })
    await writeFile(guard, GUARD, { mode: 0o600 })
    return {
      auth_method: 'gemini-api-key',
      env: {
        ...quiet,
        GEMINI_CLI_HOME: folder,
        NODE_OPTIONS: `--require=${JSON.stringify(guard)}`,
        GEMINI_API_KEY: env.GEMINI_API_KEY ?? env.GOOGLE_API_KEY ?? 'none',
        GOOGLE_GEMINI_BASE_URL: env.GOOGLE_GEMINI_BASE_URL ?? 'https://generativelanguage.googleapis.com',
      },
    }
  },
}

const SETTINGS = {
  general: {
    disableAutoUpdate: true,
    enableAutoUpdate: false,
    disableUpdateNag: true,
    enableAutoUpdateNotification: false,
  },
  privacy: { usageStatisticsEnabled: false },
  telemetry: { enabled: false },
  hooksConfig: { enabled: false },
  // Five calls alike in a row end its turn otherwise, and an agent that waits for its children makes them.
  model: { disableLoopDetection: true },
  security: { auth: { selectedType: 'gemini-api-key', enforcedType: 'gemini-api-key' } },
}

/**
 * Runs in Gemini's process before Gemini: settings of a project are not there for it. An untrusted workspace would have
 * none either, but then Gemini (0.61) starts no MCP server at all. What Gemini starts does not get this.
 */
const GUARD = `
const fs = require('node:fs')
const { sep } = require('node:path')
const { env } = require('node:process')
const { syncBuiltinESMExports } = require('node:module')
delete env.NODE_OPTIONS
const own = env.GEMINI_CLI_HOME + sep
const isThere = fs.existsSync
fs.existsSync = (path) =>
  isThere(path) && !(String(path).endsWith(sep + '.gemini' + sep + 'settings.json') && !String(path).startsWith(own))
syncBuiltinESMExports()
`
