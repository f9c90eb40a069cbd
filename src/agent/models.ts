/** Which model answers, and how it is reached. Provider packages are imported when they are chosen. */
import type { LanguageModel } from 'ai'
import { entryOf } from '../contract/entry-of.ts'
import { DEFAULT_MODELS } from '../contract/models.ts'
import { AgentFailure } from './failure.ts'
import type { Settings } from './settings.ts'

export type ProviderName = 'anthropic' | 'openai' | 'google' | 'custom' | 'scripted'
export type ModelChoice = { provider: ProviderName; model_id: string }
export type OpenModel = ModelChoice & { model: LanguageModel }

const DEFAULT_MODEL = {
  anthropic: DEFAULT_MODELS.anthropic,
  openai: DEFAULT_MODELS.openai,
  google: DEFAULT_MODELS.gemini,
} as const

const HOW =
  'Set ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY, or BATON_MODEL_BASE_URL with BATON_MODEL_ID; ' +
  'or use `--model scripted` to see Baton work without a model.'

/** Names as people write them before the slash. */
const PROVIDERS: Record<string, Exclude<ProviderName, 'scripted'>> = {
  anthropic: 'anthropic',
  openai: 'openai',
  google: 'google',
  gemini: 'google',
  custom: 'custom',
  baton: 'custom',
}

const KEY_OF = {
  anthropic: 'ANTHROPIC_API_KEY',
  openai: 'OPENAI_API_KEY',
  google: 'GEMINI_API_KEY',
  custom: 'BATON_MODEL_BASE_URL',
} as const

/** Throws an `AgentFailure` when no configured provider can serve `wanted`. */
export function chooseModel(settings: Settings, wanted: string): ModelChoice {
  if (wanted === 'scripted') return { provider: 'scripted', model_id: 'scripted' }
  if (wanted === '' || wanted === 'auto') return chooseAny(settings)
  const named = parseName(settings, wanted)
  if (!named) {
    const message = `The model ${wanted} is of no known provider. Write anthropic/, openai/ or google/ before it.`
    throw new AgentFailure('invalid_request', 'model_unknown', message)
  }
  if (!configured(settings).includes(named.provider)) {
    const message = `The model ${wanted} needs ${KEY_OF[named.provider]}, which is not set. ${HOW}`
    throw new AgentFailure('integration_not_configured', 'no_model_key', message)
  }
  return named
}

export function configured(settings: Settings): Exclude<ProviderName, 'scripted'>[] {
  return [
    ...(settings.BATON_MODEL_BASE_URL ? ['custom' as const] : []),
    ...(settings.ANTHROPIC_API_KEY ? ['anthropic' as const] : []),
    ...(settings.OPENAI_API_KEY ? ['openai' as const] : []),
    ...(googleKey(settings) ? ['google' as const] : []),
  ]
}

/** What a person may choose from without typing a name. */
export function offeredModels(settings: Settings): string[] {
  const names = configured(settings).map((provider) =>
    provider === 'custom' ? `custom/${settings.BATON_MODEL_ID ?? 'default'}` : `${provider}/${DEFAULT_MODEL[provider]}`,
  )
  return ['auto', ...names, 'scripted']
}

function chooseAny(settings: Settings): ModelChoice {
  const provider = configured(settings)[0]
  if (provider === undefined)
    throw new AgentFailure('integration_not_configured', 'no_model_key', `No model is configured. ${HOW}`)
  if (provider !== 'custom') return { provider, model_id: DEFAULT_MODEL[provider] }
  if (settings.BATON_MODEL_ID) return { provider, model_id: settings.BATON_MODEL_ID }
  const message = 'BATON_MODEL_BASE_URL is set, but no model is named. Set BATON_MODEL_ID, or name one with --model.'
  throw new AgentFailure('integration_not_configured', 'no_model_name', message)
}

function parseName(
  settings: Settings,
  wanted: string,
): { provider: Exclude<ProviderName, 'scripted'>; model_id: string } | undefined {
  const slash = wanted.indexOf('/')
  const provider = slash > 0 ? entryOf(PROVIDERS, wanted.slice(0, slash)) : undefined
  if (provider) return { provider, model_id: wanted.slice(slash + 1) }
  if (slash < 0 && wanted !== settings.BATON_MODEL_ID) {
    if (wanted.startsWith('claude')) return { provider: 'anthropic', model_id: wanted }
    if (/^(gpt-|chatgpt-|codex-|o\d)/.test(wanted)) return { provider: 'openai', model_id: wanted }
    if (wanted.startsWith('gemini')) return { provider: 'google', model_id: wanted }
  }
  return settings.BATON_MODEL_BASE_URL ? { provider: 'custom', model_id: wanted } : undefined
}

const googleKey = (settings: Settings): string | undefined =>
  settings.GEMINI_API_KEY ?? settings.GOOGLE_GENERATIVE_AI_API_KEY

export async function openModel(settings: Settings, choice: ModelChoice): Promise<OpenModel> {
  return { ...choice, model: await connect(settings, choice) }
}

async function connect(settings: Settings, { provider, model_id }: ModelChoice): Promise<LanguageModel> {
  switch (provider) {
    case 'anthropic': {
      const { createAnthropic } = await import('@ai-sdk/anthropic')
      return createAnthropic(at(settings.ANTHROPIC_API_KEY, settings.ANTHROPIC_BASE_URL, '/v1'))(model_id)
    }
    case 'openai': {
      const { createOpenAI } = await import('@ai-sdk/openai')
      return createOpenAI(at(settings.OPENAI_API_KEY, settings.OPENAI_BASE_URL, ''))(model_id)
    }
    case 'google': {
      const { createGoogleGenerativeAI } = await import('@ai-sdk/google')
      return createGoogleGenerativeAI(at(googleKey(settings), settings.GOOGLE_GEMINI_BASE_URL, '/v1beta'))(model_id)
    }
    case 'custom': {
      const { createOpenAICompatible } = await import('@ai-sdk/openai-compatible')
      const baseURL = settings.BATON_MODEL_BASE_URL ?? ''
      const apiKey = settings.BATON_MODEL_API_KEY
      return createOpenAICompatible({ name: 'custom', baseURL, includeUsage: true, ...(apiKey ? { apiKey } : {}) })(
        model_id,
      )
    }
    case 'scripted': {
      const { scriptedModel } = await import('./scripted.ts')
      return scriptedModel(settings.BATON_SCRIPT)
    }
  }
}

/** Vendors' variables leave the version out where the SDK wants it in. */
function at(key: string | undefined, base: string | undefined, version: string): { apiKey: string; baseURL?: string } {
  const apiKey = key ?? ''
  if (base === undefined) return { apiKey }
  const bare = base.replace(/\/+$/, '')
  return { apiKey, baseURL: bare.endsWith(version) ? bare : bare + version }
}
