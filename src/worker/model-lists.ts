/**
 * Asks each provider which models it has, with the worker's own key. The answer is only shown to people who choose: no
 * run waits for it, and a provider that keeps no list is as good as one that does.
 */
import { z } from 'zod'
import type { ProviderModels } from '../contract/index.ts'
import type { ModelUpstream } from './models.ts'

const ANSWER_MS = 10_000
/** Of one provider, in the order of its answer. */
const MODELS_MAX = 200

const Listed = z.object({
  data: z.array(z.object({ id: z.string().min(1).max(250), display_name: z.string().max(250).optional() })),
})
const GeminiListed = z.object({
  models: z.array(
    z.object({
      name: z.string().min(1).max(250),
      displayName: z.string().max(250).optional(),
      supportedGenerationMethods: z.array(z.string()).optional(),
    }),
  ),
})

/** Never rejects. */
export async function askModels(upstreams: readonly ModelUpstream[], signal: AbortSignal): Promise<ProviderModels[]> {
  return Promise.all(upstreams.map((upstream) => askOne(upstream, signal)))
}

async function askOne(upstream: ModelUpstream, signal: AbortSignal): Promise<ProviderModels> {
  const { provider, model_id } = upstream
  const named = model_id === undefined ? [] : [{ id: model_id }]
  const without = (status: ProviderModels['status']): ProviderModels => ({ provider, status, models: named })
  try {
    const { url, headers } = questionTo(upstream)
    const patience = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)])
    const response = await fetch(url, { headers, signal: patience, redirect: 'error' })
    const body: unknown = await response.json().catch(() => null)
    if (response.status === 401 || response.status === 403) return without('refused')
    if (response.status === 429) return without('exhausted')
    if (response.status >= 500) return without('away')
    const found = response.ok ? modelsIn(upstream, body).slice(0, MODELS_MAX) : []
    const models = [...named.filter(({ id }) => found.every((one) => one.id !== id)), ...found]
    return { provider, status: 'ok', models }
  } catch {
    return without('away')
  }
}

function questionTo({ provider, base_url, api_key }: ModelUpstream): { url: string; headers: Record<string, string> } {
  const key = api_key?.reveal() ?? ''
  switch (provider) {
    case 'anthropic':
      return {
        url: `${base_url}/v1/models?limit=${MODELS_MAX}`,
        headers: { 'x-api-key': key, 'anthropic-version': '2023-06-01' },
      }
    case 'gemini':
      return { url: `${base_url}/v1beta/models?pageSize=${MODELS_MAX}`, headers: { 'x-goog-api-key': key } }
    case 'openai':
    case 'custom': {
      const headers: Record<string, string> = key === '' ? {} : { authorization: `Bearer ${key}` }
      return { url: `${base_url}/models`, headers }
    }
  }
}

/** OpenAI and Google list what makes sounds, pictures and vectors, too. */
const OPENAI_CHAT = /^(gpt-|chatgpt-|codex-|o\d)(?!.*(audio|realtime|transcribe|tts|image|search|instruct))/

function modelsIn({ provider }: ModelUpstream, body: unknown): ProviderModels['models'] {
  switch (provider) {
    case 'gemini': {
      const { models = [] } = GeminiListed.safeParse(body).data ?? {}
      return models
        .filter(({ name, supportedGenerationMethods: methods }) => {
          return /^models\/gemini-/.test(name) && (methods === undefined || methods.includes('generateContent'))
        })
        .map(({ name, displayName }) => ({
          id: name.replace(/^models\//, ''),
          ...(displayName === undefined ? {} : { display_name: displayName }),
        }))
    }
    case 'anthropic':
    case 'openai':
    case 'custom': {
      const { data = [] } = Listed.safeParse(body).data ?? {}
      return data
        .filter(({ id }) => provider !== 'openai' || OPENAI_CHAT.test(id))
        .map(({ id, display_name }) => ({ id, ...(display_name === undefined ? {} : { display_name }) }))
    }
  }
}
