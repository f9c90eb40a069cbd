/**
 * OpenCode, which speaks ACP itself.
 *
 * Enforced against the checkout: its configuration files are not read (OPENCODE_DISABLE_PROJECT_CONFIG), and the inline
 * configuration, which is above files, states provider and permissions. Not enforceable in 1.18: a second loader
 * imports `.opencode/plugin(s)/*.js` of the checkout whatever it is told. Its AGENTS.md is named as instructions
 * instead.
 *
 * Of a turn's tokens it tells those of the last model call (1.18), and the same again for each prompt that joined the
 * turn. Its database has them for each call, also of the sessions that it starts for tasks of its own.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { Usage } from '../../contract/index.ts'
import { homeOf, isSet, openaiBase, type Place, type Profile } from './profile.ts'

const LOGIN_VARIABLES = [
  'ANTHROPIC_API_KEY',
  'OPENAI_API_KEY',
  'GEMINI_API_KEY',
  'BATON_MODEL_API_KEY',
  'OPENCODE_API_KEY',
]
const BASE_VARIABLES = ['BATON_MODEL_BASE_URL', 'OPENAI_BASE_URL', 'ANTHROPIC_BASE_URL', 'GOOGLE_GEMINI_BASE_URL']
const DATA = 'opencode/data'
const OWN_DATABASE = 'opencode/opencode.db'
const DATABASE = `${DATA}/${OWN_DATABASE}`

export const opencode: Profile = {
  name: 'opencode',
  title: 'OpenCode',
  aliases: ['open-code'],
  packages: ['opencode-ai@1.18.33'],
  command: 'opencode',
  // The package's own `bin` is put there by an install script, which npm may be told not to run.
  installed: [
    `opencode-${process.platform}-${process.arch}/bin/opencode`,
    `opencode-${process.platform}-${process.arch}-baseline/bin/opencode`,
    `opencode-ai/node_modules/opencode-${process.platform}-${process.arch}/bin/opencode`,
  ],
  args: ['acp'],
  modes: { allow: [], deny: [] },
  login: {
    variables: [...LOGIN_VARIABLES, 'BATON_MODEL_BASE_URL'],
    files: (env) => [
      join(env.XDG_DATA_HOME ?? join(homeOf(env), '.local/share'), 'opencode/auth.json'),
      ...['opencode.json', 'opencode.jsonc'].map((name) =>
        join(env.XDG_CONFIG_HOME ?? join(homeOf(env), '.config'), 'opencode', name),
      ),
    ],
    keychain: false,
    how: 'Run `opencode auth login` there as the same user, or set ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY or BATON_MODEL_BASE_URL for the worker.',
  },
  session_folders: [DATABASE, `${DATABASE}-wal`],
  // OpenCode (1.18) works where its session began, whatever folder it is told.
  async moveSession(home, workspace) {
    const { DatabaseSync } = await import('node:sqlite')
    const database = new DatabaseSync(join(home, DATABASE))
    try {
      database.prepare('update session set directory = ?').run(workspace)
    } finally {
      database.close()
    }
  },
  // OpenCode cuts MCP calls at 60 s.
  tool_hold_ms: 45_000,
  joins_prompt_to_running_turn: true,
  async prepare(place) {
    const { env, home } = place
    const quiet = { OPENCODE_DISABLE_AUTOUPDATE: '1' }
    if (!isSet(env, ...BASE_VARIABLES, ...LOGIN_VARIABLES)) {
      const data = env.XDG_DATA_HOME ?? join(homeOf(env), '.local/share')
      return {
        env: { ...quiet, OPENCODE_CONFIG_CONTENT: JSON.stringify(settings(place)) },
        session_usage: (session_id) => sessionUsage(join(data, OWN_DATABASE), session_id),
      }
    }
    const folders = {
      XDG_DATA_HOME: join(home, DATA),
      XDG_STATE_HOME: join(home, 'opencode/state'),
      XDG_CONFIG_HOME: join(home, 'opencode/config'),
    }
    for (const folder of Object.values(folders)) await mkdir(folder, { recursive: true, mode: 0o700 })
    return {
      session_usage: (session_id) => sessionUsage(join(home, DATABASE), session_id),
      env: {
        ...quiet,
        ...folders,
        OPENCODE_DISABLE_MODELS_FETCH: '1',
        OPENCODE_DISABLE_PROJECT_CONFIG: '1',
        OPENCODE_PURE: '1',
        OPENCODE_DISABLE_LSP_DOWNLOAD: '1',
        OPENCODE_CONFIG_CONTENT: JSON.stringify({
          ...settings(place),
          ...providerSettings(place),
          instructions: instructions(place),
        }),
      },
    }
  },
}

const Sum = z.object({
  input_tokens: z.number(),
  output_tokens: z.number(),
  cache_read_tokens: z.number(),
  cache_write_tokens: z.number(),
  cost_usd: z.number(),
})

const OF_SESSION = `
  with recursive own(id) as (
    select ? union select session.id from session join own on session.parent_id = own.id
  ), calls as (
    select message.data ->> '$.cost' as cost, message.data -> '$.tokens' as tokens
    from message join own on message.session_id = own.id where message.data ->> '$.role' = 'assistant'
  )
  select coalesce(sum(tokens ->> '$.input'), 0) as input_tokens,
    coalesce(sum(tokens ->> '$.output'), 0) + coalesce(sum(tokens ->> '$.reasoning'), 0) as output_tokens,
    coalesce(sum(tokens ->> '$.cache.read'), 0) as cache_read_tokens,
    coalesce(sum(tokens ->> '$.cache.write'), 0) as cache_write_tokens,
    coalesce(sum(cost), 0) as cost_usd
  from calls`

async function sessionUsage(path: string, session_id: string): Promise<Usage> {
  const { DatabaseSync } = await import('node:sqlite')
  const database = new DatabaseSync(path, { readOnly: true })
  try {
    const { cost_usd, ...tokens } = Sum.parse(database.prepare(OF_SESSION).get(session_id))
    // It says 0 of models whose prices it does not know.
    return cost_usd > 0 ? { ...tokens, cost_usd } : tokens
  } finally {
    database.close()
  }
}

const instructions = ({ workspace }: Place) => [join(workspace, 'AGENTS.md'), join(workspace, '*', 'AGENTS.md')]

const settings = ({ permissions, model_id }: Place) => ({
  autoupdate: false,
  share: 'disabled',
  // A model call for a title that nobody sees.
  agent: { title: { disable: true } },
  permission: { '*': permissions === 'allow' ? 'allow' : 'ask' },
  ...(model_id?.includes('/') ? { model: model_id } : {}),
})

/** Keys stay references to the environment, so that no file or dump of the configuration holds one. */
function providerSettings({ env, model_id }: Place): Record<string, unknown> {
  if (isSet(env, 'BATON_MODEL_BASE_URL')) {
    const model = model_id ?? env.BATON_MODEL_ID ?? 'default'
    const options = {
      baseURL: openaiBase(env.BATON_MODEL_BASE_URL),
      apiKey: isSet(env, 'BATON_MODEL_API_KEY') ? '{env:BATON_MODEL_API_KEY}' : 'none',
    }
    return {
      enabled_providers: ['baton'],
      model: `baton/${model}`,
      small_model: `baton/${model}`,
      provider: { baton: { npm: '@ai-sdk/openai-compatible', name: 'Baton', options, models: { [model]: {} } } },
    }
  }
  const [name, options] = isSet(env, 'ANTHROPIC_API_KEY', 'ANTHROPIC_BASE_URL')
    ? ([
        'anthropic',
        { baseURL: `${env.ANTHROPIC_BASE_URL ?? 'https://api.anthropic.com'}/v1`, apiKey: '{env:ANTHROPIC_API_KEY}' },
      ] as const)
    : isSet(env, 'OPENAI_API_KEY', 'OPENAI_BASE_URL')
      ? (['openai', { baseURL: openaiBase(env.OPENAI_BASE_URL), apiKey: '{env:OPENAI_API_KEY}' }] as const)
      : ([
          'google',
          {
            baseURL: `${env.GOOGLE_GEMINI_BASE_URL ?? 'https://generativelanguage.googleapis.com'}/v1beta`,
            apiKey: '{env:GEMINI_API_KEY}',
          },
        ] as const)
  // Without this OpenCode may choose a provider of its own, whose host nobody allowed.
  const enabled_providers = [name]
  if (model_id === null || model_id.includes('/')) return { enabled_providers, provider: { [name]: { options } } }
  const model = `${name}/${model_id}`
  return { enabled_providers, model, small_model: model, provider: { [name]: { options, models: { [model_id]: {} } } } }
}
