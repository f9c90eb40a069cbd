/**
 * Codex through `@agentclientprotocol/codex-acp`, which brings its own Codex.
 *
 * Enforced against the checkout: with a private CODEX_HOME the workspace is untrusted, so that Codex does not load
 * `.codex/config.toml` of the checkout at all. The adapter (2.6) declares the session's folder trusted by its very
 * spelling; a spelling that Codex resolves to another one leaves our word standing. AGENTS.md is still read.
 *
 * Codex begins without the tools of an MCP server that is not ready after some seconds. Baton's own is marked as
 * `required` in its configuration, which makes the session wait for it, or fail in words. With the owner's
 * configuration the adapter is asked to wait.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { McpEndpoint } from './harness.ts'
import { homeOf, isSet, openaiBase, type Place, type Profile } from './profile.ts'

/** How long Codex waits for Baton's tools; a machine that starts many agents at once is slow. */
const STARTUP_MS = 100_000

/** What a call of a tool may take, above `tool_hold_ms`. */
const TOOL_MS = 120_000

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
    const quiet = {
      NO_BROWSER: '1',
      // The adapter (2.6) has its model guess the next prompt after each turn, from all of the conversation.
      CODEX_ACP_PROMPT_SUGGESTIONS: 'false',
      INITIAL_AGENT_MODE: permissions === 'allow' ? 'agent-full-access' : 'read-only',
    }
    if (!isSet(env, 'OPENAI_BASE_URL', ...LOGIN_VARIABLES))
      return { env: quiet, session_meta: { mcpStartupAwaitTimeoutMs: STARTUP_MS } }
    const folder = join(home, 'codex')
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await writeFile(join(folder, 'config.toml'), configToml(place), { mode: 0o600 })
    return {
      session_cwd: `${place.workspace}/.`,
      mcp_in_meta: true,
      env: {
        ...quiet,
        ...headerVariables(place.mcp),
        CODEX_HOME: folder,
        OPENAI_API_KEY: env.OPENAI_API_KEY ?? env.CODEX_API_KEY ?? 'none',
      },
    }
  },
}

/** Headers are references to the environment, so that no file holds a token. */
const headerVariable = (server: string, header: string): string =>
  `BATON_MCP_${server}_${header}`.toUpperCase().replace(/[^A-Z0-9]/g, '_')

const headerVariables = (mcp: McpEndpoint[]): Record<string, string> =>
  Object.fromEntries(
    mcp.flatMap(({ name, headers }) =>
      Object.entries(headers).map(([header, value]) => [headerVariable(name, header), value]),
    ),
  )

function configToml({ env, workspace, model_id, reasoning_level, mcp }: Place): string {
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
    ...mcp.flatMap(({ name, url, headers }) => [
      `[mcp_servers.${text(name)}]`,
      `url = ${text(url)}`,
      'required = true',
      `startup_timeout_sec = ${STARTUP_MS / 1000}`,
      `tool_timeout_sec = ${TOOL_MS / 1000}`,
      '',
      `[mcp_servers.${text(name)}.env_http_headers]`,
      ...Object.keys(headers).map((header) => `${text(header)} = ${text(headerVariable(name, header))}`),
      '',
    ]),
  ].join('\n')
}
