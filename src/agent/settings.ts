/**
 * What the environment tells the built-in harness. The base URLs follow each vendor's own convention, so that
 * the same variables serve the vendor's CLI: Anthropic and Gemini without a version, OpenAI with `/v1`.
 */
import { z } from 'zod'

const Text = z
  .string()
  .transform((text) => (text === '' ? undefined : text))
  .optional()
const Whole = z.coerce.number().int().positive()

export const Settings = z.object({
  ANTHROPIC_API_KEY: Text,
  ANTHROPIC_BASE_URL: Text,
  OPENAI_API_KEY: Text,
  OPENAI_BASE_URL: Text,
  GEMINI_API_KEY: Text,
  GOOGLE_GENERATIVE_AI_API_KEY: Text,
  GOOGLE_GEMINI_BASE_URL: Text,
  /** An OpenAI-compatible endpoint, with its version segment. */
  BATON_MODEL_BASE_URL: Text,
  BATON_MODEL_API_KEY: Text,
  BATON_MODEL_ID: Text,
  /** `auto`, `scripted`, `provider/model` or a bare model name. */
  BATON_MODEL: Text,
  /** How hard the model is to think; another word is none. */
  BATON_REASONING: z.enum(['none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max']).optional().catch(undefined),
  /** Where sessions are kept, one file each. Absent: sessions end with the process. */
  BATON_AGENT_STATE_DIR: Text,
  /** A JSON file with the turns of the scripted model. */
  BATON_SCRIPT: Text,
  /** Model calls that one prompt may make. */
  BATON_MODEL_CALLS_MAX: Whole.default(250),
  /** Tries after the first, for what the provider calls temporary. */
  BATON_MODEL_RETRIES: z.coerce.number().int().nonnegative().default(4),
  /** Above this size of the history, in characters, the oldest tool outputs are left out. */
  BATON_HISTORY_CHARS_MAX: Whole.default(400_000),
})
export type Settings = z.infer<typeof Settings>

const PRIVATE = [
  'ANTHROPIC_API_KEY',
  'ANTHROPIC_AUTH_TOKEN',
  'OPENAI_API_KEY',
  'GEMINI_API_KEY',
  'GOOGLE_GENERATIVE_AI_API_KEY',
  'BATON_MODEL_API_KEY',
  'BATON_AGENT_STATE_DIR',
  'BATON_SCRIPT',
]

/** The environment of the commands that the model runs: without the keys of the model itself. */
export function toolEnvironment(env: Record<string, string | undefined>): Record<string, string> {
  const kept = Object.entries(env).filter((pair): pair is [string, string] => pair[1] !== undefined)
  return {
    ...Object.fromEntries(kept.filter(([name]) => !PRIVATE.includes(name))),
    GIT_TERMINAL_PROMPT: '0',
    GIT_PAGER: 'cat',
    PAGER: 'cat',
    GIT_EDITOR: 'true',
  }
}

/** Replaces every key of `settings` in text that leaves the process. */
export function withoutKeys(settings: Settings, text: string): string {
  const keys = [
    settings.ANTHROPIC_API_KEY,
    settings.OPENAI_API_KEY,
    settings.GEMINI_API_KEY,
    settings.GOOGLE_GENERATIVE_AI_API_KEY,
    settings.BATON_MODEL_API_KEY,
  ]
  return keys.reduce<string>((rest, key) => (key && key.length >= 6 ? rest.replaceAll(key, '•••') : rest), text)
}
