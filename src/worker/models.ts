/**
 * The models that a worker can reach: read from its own environment, and shown to sandboxes only as the broker's
 * addresses with the execution's token in the place of the key.
 */
import { inspect } from 'node:util'
import type { ModelKeyProvider, ModelProvider } from '../contract/index.ts'

/** A value that no log, message or JSON shows. */
export type Secret = { reveal(): string }

export type ModelUpstream = {
  provider: ModelProvider
  /** As the provider's own CLIs spell it: with `/v1` for openai and custom, without for the others. */
  base_url: string
  /** Absent where a server of one's own wants none. */
  api_key?: Secret
  model_id?: string
}

export type Environment = Readonly<Record<string, string | undefined>>

export class ModelsMisconfigured extends Error {
  override readonly name = 'ModelsMisconfigured'
}

export function secret(value: string): Secret {
  const shown = () => '•••'
  return Object.defineProperties(
    { reveal: () => value },
    {
      toString: { value: shown },
      toJSON: { value: shown },
      [inspect.custom]: { value: shown },
    },
  )
}

/** Throws `ModelsMisconfigured` for a base URL that is none. */
export function readModels(env: Environment): ModelUpstream[] {
  const { anthropic, openai, gemini } = providerAddresses(env)
  const found: (ModelUpstream | null)[] = [
    keyed('anthropic', env.ANTHROPIC_API_KEY, anthropic),
    keyed('openai', env.OPENAI_API_KEY, openai),
    keyed('gemini', env.GEMINI_API_KEY || env.GOOGLE_GENERATIVE_AI_API_KEY, gemini),
    custom(env),
  ]
  return found.filter((one) => one !== null)
}

/** Where the providers are, with a key or without. */
export const providerAddresses = (env: Environment): Record<ModelKeyProvider, string> => ({
  anthropic: url('ANTHROPIC_BASE_URL', env, 'https://api.anthropic.com'),
  openai: url('OPENAI_BASE_URL', env, 'https://api.openai.com/v1'),
  gemini: url('GOOGLE_GEMINI_BASE_URL', env, 'https://generativelanguage.googleapis.com'),
})

function keyed(provider: ModelProvider, key: string | undefined, base_url: string): ModelUpstream | null {
  return key ? { provider, base_url, api_key: secret(key) } : null
}

function custom(env: Environment): ModelUpstream | null {
  if (!env.BATON_MODEL_BASE_URL) return null
  return {
    provider: 'custom',
    base_url: url('BATON_MODEL_BASE_URL', env, ''),
    ...(env.BATON_MODEL_API_KEY ? { api_key: secret(env.BATON_MODEL_API_KEY) } : {}),
    ...(env.BATON_MODEL_ID ? { model_id: env.BATON_MODEL_ID } : {}),
  }
}

function url(name: string, env: Environment, otherwise: string): string {
  const text = env[name] || otherwise
  const parsed = URL.parse(text)
  if (!parsed || !/^https?:$/.test(parsed.protocol) || parsed.username || parsed.search || parsed.hash) {
    throw new ModelsMisconfigured(`${name} must be an http or https address without user, query or fragment.`)
  }
  return text.replace(/\/+$/, '')
}

/** What a sandbox is told of the models. */
export function modelEnvironment(
  token: string,
  broker: { url: string; models: readonly ModelUpstream[] } | null,
): Record<string, string> {
  if (!broker) return {}
  const env: Record<string, string> = {}
  for (const { provider, model_id } of broker.models) {
    switch (provider) {
      case 'anthropic':
        Object.assign(env, { ANTHROPIC_BASE_URL: `${broker.url}/anthropic`, ANTHROPIC_API_KEY: token })
        break
      case 'openai':
        Object.assign(env, { OPENAI_BASE_URL: `${broker.url}/openai/v1`, OPENAI_API_KEY: token })
        break
      case 'gemini':
        Object.assign(env, { GOOGLE_GEMINI_BASE_URL: `${broker.url}/gemini`, GEMINI_API_KEY: token })
        break
      case 'custom':
        Object.assign(env, {
          BATON_MODEL_BASE_URL: `${broker.url}/custom/v1`,
          BATON_MODEL_API_KEY: token,
          ...(model_id ? { BATON_MODEL_ID: model_id } : {}),
        })
    }
  }
  return env
}
