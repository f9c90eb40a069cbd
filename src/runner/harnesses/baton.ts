/**
 * The built-in harness: an ACP agent in this very program, started as `baton acp-agent`. It needs nothing
 * installed.
 */
import { join } from 'node:path'
import type { Profile } from './profile.ts'

/** `entry`: the file that Baton was started by. */
export const baton: Profile = {
  name: 'baton',
  title: 'The built-in agent',
  aliases: ['oz'],
  packages: [],
  command: 'baton',
  installed: [],
  args: ['acp-agent'],
  modes: { allow: ['unattended'], deny: ['default'] },
  login: {
    variables: [
      'ANTHROPIC_API_KEY',
      'OPENAI_API_KEY',
      'GEMINI_API_KEY',
      'GOOGLE_GENERATIVE_AI_API_KEY',
      'BATON_MODEL_BASE_URL',
      'BATON_SCRIPT',
    ],
    files: () => [],
    keychain: false,
    needless_for: ['scripted'],
    how: 'Set ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY or BATON_MODEL_BASE_URL (with BATON_MODEL_ID) for the worker; `--model scripted` works without.',
  },
  session_folders: ['agent'],
  tool_hold_ms: 120_000,
  joins_prompt_to_running_turn: true,
  async prepare({ home, model_id, reasoning_level }) {
    return {
      env: {
        BATON_AGENT_STATE_DIR: join(home, 'agent'),
        ...(model_id === null ? {} : { BATON_MODEL: model_id }),
        ...(reasoning_level === null ? {} : { BATON_REASONING: reasoning_level.toLowerCase() }),
      },
    }
  },
}
