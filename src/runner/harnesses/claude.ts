/**
 * Claude Code through `@agentclientprotocol/claude-agent-acp`, which brings its own Claude Code.
 *
 * Enforced against the checkout: the programmatic settings tier, which is above project and local settings, states the
 * address, the proxies, no API key command and no hooks; only MCP servers of the session are started (Claude Code 2
 * starts those of `.mcp.json` in mode bypassPermissions, whatever `enableAllProjectMcpServers` says). CLAUDE.md and
 * other text of the checkout are still read.
 */
import { join } from 'node:path'
import type { McpEndpoint } from './harness.ts'
import { homeOf, isSet, type Profile, proxies } from './profile.ts'

const LOGIN_VARIABLES = [
  'ANTHROPIC_API_KEY',
  'ANTHROPIC_AUTH_TOKEN',
  'CLAUDE_CODE_OAUTH_TOKEN',
  'CLAUDE_CODE_USE_BEDROCK',
  'CLAUDE_CODE_USE_VERTEX',
]

/** What Claude Code knows as an effort (2.1); any other word is nothing that it could be told. */
const EFFORTS = ['low', 'medium', 'high', 'xhigh', 'max']

export const claude: Profile = {
  name: 'claude',
  title: 'Claude Code',
  aliases: ['claude-code'],
  packages: ['@agentclientprotocol/claude-agent-acp@0.100.0'],
  command: 'claude-agent-acp',
  installed: ['@agentclientprotocol/claude-agent-acp/dist/index.js'],
  args: [],
  modes: { allow: ['bypassPermissions', 'acceptEdits'], deny: ['default'] },
  login: {
    variables: LOGIN_VARIABLES,
    files: (env) => [join(env.CLAUDE_CONFIG_DIR ?? join(homeOf(env), '.claude'), '.credentials.json')],
    keychain: true,
    how: 'Run `claude login` there as the same user, or set ANTHROPIC_API_KEY for the worker.',
  },
  session_folders: ['claude/projects'],
  tool_hold_ms: 60_000,
  joins_prompt_to_running_turn: true,
  async prepare({ env, home, model_id, reasoning_level, mcp }) {
    const quiet = {
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
      DISABLE_AUTOUPDATER: '1',
      CLAUDE_CODE_ENABLE_PROMPT_SUGGESTION: 'false',
      // Claude Code refuses bypassPermissions to root unless it is told that it runs in a sandbox.
      ...(process.getuid?.() === 0 ? { IS_SANDBOX: '1' } : {}),
      ...(model_id === null ? {} : { ANTHROPIC_MODEL: model_id }),
    }
    const effort = EFFORTS.find((level) => level === reasoning_level?.toLowerCase())
    const options = { promptSuggestions: false, mcpServers: mcpServers(mcp), ...(effort && { effort }) }
    if (!isSet(env, 'ANTHROPIC_BASE_URL', ...LOGIN_VARIABLES))
      return { env: quiet, mcp_in_meta: true, session_meta: { claudeCode: { options } } }
    // No key here: these settings become an argument of the claude process.
    const settings = {
      apiKeyHelper: '',
      disableAllHooks: true,
      enableAllProjectMcpServers: false,
      env: { ANTHROPIC_BASE_URL: env.ANTHROPIC_BASE_URL ?? 'https://api.anthropic.com', ...proxies(env) },
    }
    return {
      env: { ...quiet, CLAUDE_CONFIG_DIR: join(home, 'claude') },
      mcp_in_meta: true,
      session_meta: { claudeCode: { options: { ...options, settings, strictMcpConfig: true } } },
    }
  },
}

/**
 * Claude Code 2 hides tools of MCP servers behind a search, and begins before their servers are connected, unless it is
 * told otherwise, which ACP has no word for.
 */
const mcpServers = (mcp: McpEndpoint[]) =>
  Object.fromEntries(mcp.map(({ name, url, headers }) => [name, { type: 'http', url, headers, alwaysLoad: true }]))
