/** The harnesses that the suites go over, and how each is pointed at the scripted model. */
import { join } from 'node:path'
import { CACHE } from './place.ts'

export const KEY = 'no-real-key-0123456789'
const openai = (url: string) => ({ OPENAI_BASE_URL: `${url}/v1`, OPENAI_API_KEY: KEY })
export const SURROUNDINGS = {
  BATON_HARNESS_CACHE: CACHE,
  BATON_CLI: join(import.meta.dirname, '../../src/agent/main.ts'),
  HOME: '/nonexistent',
}
/** A port that nothing listens on: a request that leaves loopback fails there, at once. */
const DEAD_PROXY = 'http://127.0.0.1:9'

/** What a runner of a worker is surrounded by, with its home at `user`. */
export const runnerEnv = (its: Case, url: string, user: string): Record<string, string> => ({
  ...SURROUNDINGS,
  PATH: process.env.PATH ?? '',
  HOME: user,
  LANG: 'C.UTF-8',
  HTTP_PROXY: DEAD_PROXY,
  HTTPS_PROXY: DEAD_PROXY,
  NO_PROXY: '127.0.0.1,localhost',
  ...its.env(url),
})

export type Case = {
  name: string
  env(url: string): Record<string, string>
  model_id?: string
  resumes: boolean
  login: RegExp
  deny_shows: boolean
}

export const CASES: Case[] = [
  {
    name: 'claude',
    env: (url) => ({ ANTHROPIC_BASE_URL: url, ANTHROPIC_API_KEY: KEY, CLAUDE_CODE_MAX_RETRIES: '1' }),
    resumes: true,
    login: /claude login.*ANTHROPIC_API_KEY/,
    deny_shows: true,
  },
  // A model that Codex does not know gets plain shell functions, which the scripted model can call.
  {
    name: 'codex',
    env: openai,
    model_id: 'mock',
    resumes: true,
    login: /codex login.*OPENAI_API_KEY/,
    deny_shows: false,
  },
  {
    name: 'gemini',
    env: (url) => ({ GOOGLE_GEMINI_BASE_URL: url, GEMINI_API_KEY: KEY }),
    resumes: false,
    login: /gemini.*GEMINI_API_KEY/,
    deny_shows: true,
  },
  {
    name: 'opencode',
    model_id: 'mock',
    resumes: true,
    login: /opencode auth login/,
    deny_shows: true,
    env: (url) => ({ BATON_MODEL_BASE_URL: `${url}/v1`, BATON_MODEL_API_KEY: KEY }),
  },
  { name: 'baton', env: openai, model_id: 'openai/mock', resumes: true, login: /OPENAI_API_KEY/, deny_shows: true },
]
