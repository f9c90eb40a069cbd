/**
 * Codex through `@agentclientprotocol/codex-acp`, which brings its own Codex.
 *
 * Enforced against the checkout: with a private CODEX_HOME the workspace is untrusted, so that Codex does not load
 * `.codex/config.toml` of the checkout at all. The adapter (2.6) declares the session's folder trusted by its very
 * spelling; a spelling that Codex resolves to another one leaves our word standing. AGENTS.md is still read.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { homeOf, isSet, openaiBase, type Place, type Profile } from './profile.ts'

const LOGIN_VARIABLES = ['OPENAI_API_KEY', 'CODEX_API_KEY']

export const codex: Profile = {
  name: 'codex',
  title: 'Codex',
  aliases: [],
  packages: ['@agentclientprotocol/codex-acp@2.6.0'],
  command: 'codex-acp',
  installed: ['@agentclientprotocol/codex-acp/dist/index.js'],
  args: [],
  // Mode `agent` would send calls of MCP tools to a reviewing model.
  modes: { allow: ['agent-full-access'], deny: ['read-only'] },
  login: {
    variables: LOGIN_VARIABLES,
    files: (env) => [join(env.CODEX_HOME ?? join(homeOf(env), '.codex'), 'auth.json')],
    keychain: false,
    how: 'Run `codex login` there as the same user, or set OPENAI_API_KEY for the worker.',
  },
  session_folders: ['codex/sessions'],
  tool_hold_ms: 100_000,
  joins_prompt_to_running_turn: false,
  async prepare(place) {
    const { env, home, permissions } = place
    const quiet = { NO_BROWSER: '1', INITIAL_AGENT_MODE: permissions === 'allow' ? 'agent-full-access' : 'read-only' }
    if (!isSet(env, 'OPENAI_BASE_URL', ...LOGIN_VARIABLES)) return { env: quiet }
    const folder = join(home, 'codex')
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await writeFile(join(folder, 'config.toml'), configToml(place), { mode: 0o600 })
    return {
      session_cwd: `${place.workspace}/.`,
      env: { ...quiet, CODEX_HOME: folder, OPENAI_API_KEY: env.OPENAI_API_KEY ?? env.CODEX_API_KEY ?? 'none' },
    }
  },
}

function configToml({ env, workspace, model_id, reasoning_level }: Place): string {
  // A JSON string is a TOML basic string.
  const text = (value: string) => JSON.stringify(value)
  return [
    'model_provider = "baton"',
    ...(model_id === null ? [] : [`model = ${text(model_id)}`]),
    ...(reasoning_level === null ? [] : [`model_reasoning_effort = ${text(reasoning_level)}`]),
    'check_for_update_on_startup = false',
    '',
    '[analytics]',
    'enabled = false',
    '',
    '[model_providers.baton]',
    'name = "Baton"',
    `base_url = ${text(openaiBase(env.OPENAI_BASE_URL))}`,
    'wire_api = "responses"',
    'env_key = "OPENAI_API_KEY"',
    '',
    `[projects.${text(workspace)}]`,
    'trust_level = "untrusted"',
    '',
  ].join('\n')
}
