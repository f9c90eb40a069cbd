/**
 * Models that runs can name. Path and fields are those of the public Oz v1 API.
 *
 * The list is what the providers themselves told the workers that are connected, which ask with their own keys; and for
 * every provider the model that `auto` takes from it, also where no worker has a key: then with `disable_reason`.
 */
import { z } from 'zod'
import { route } from './route.ts'

/** As workers call them; `custom` is an endpoint of the owner's own that speaks OpenAI's protocol. */
export const MODEL_PROVIDERS = ['anthropic', 'openai', 'gemini', 'custom'] as const
export type ModelProvider = (typeof MODEL_PROVIDERS)[number]

/** What `auto` takes from each provider, the first that has a key. */
export const DEFAULT_MODELS = {
  anthropic: 'claude-sonnet-5-5',
  openai: 'gpt-5.5',
  gemini: 'gemini-pro-latest',
} as const satisfies Partial<Record<ModelProvider, string>>

/** What a worker found out about a provider that it has a key for. */
export const ProviderModels = z.object({
  provider: z.enum(MODEL_PROVIDERS),
  /** `refused`: the key is none; `exhausted`: no requests are left; `away`: it did not answer well. */
  status: z.enum(['ok', 'refused', 'exhausted', 'away']),
  models: z.array(z.object({ id: z.string().max(256), display_name: z.string().max(256).optional() })).max(500),
})
export type ProviderModels = z.infer<typeof ProviderModels>

export const DISABLE_REASONS = ['PROVIDER_OUTAGE', 'OUT_OF_REQUESTS', 'ADMIN_DISABLED', 'REQUIRES_UPGRADE'] as const

export const Model = z.object({
  /** Names it as `model_id`; models of the owner's own endpoint begin with `custom/`. */
  id: z.string(),
  display_name: z.string(),
  provider: z.enum(['OPENAI', 'ANTHROPIC', 'GOOGLE', 'UNKNOWN']),
  vision_supported: z.boolean(),
  description: z.string().optional(),
  reasoning_level: z.string().optional(),
  /** `ADMIN_DISABLED`: no worker that is connected has a key for it. */
  disable_reason: z.enum(DISABLE_REASONS).optional(),
})
export type Model = z.infer<typeof Model>

export const modelRoutes = {
  list: route({
    name: 'models.list',
    method: 'GET',
    path: '/agent/models',
    tag: 'Models',
    callers: ['user'],
    summary: 'The models that the connected workers reach, as their providers list them.',
    answer: z.object({ default_model_id: z.string(), models: z.array(Model) }),
  }),
}
