/** Models: what the workers of a team have said that they reach, as one list. */
import { z } from 'zod'
import { DEFAULT_MODELS, type Model, type ModelProvider, ProviderModels } from '../contract/index.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'
import { UNSEEN_MS } from './workers.ts'

export const DEFAULT_MODEL_ID = 'auto'
const KNOWN: Exclude<ModelProvider, 'custom'>[] = ['anthropic', 'openai', 'gemini']

export function modelsEngine(room: Room) {
  const { clock } = room
  const db = room.database.kysely

  /** Kept with the connection. */
  async function said(connection_id: string, providers: ProviderModels[]): Promise<void> {
    await db
      .updateTable('worker_connections')
      .set({ models: JSON.stringify(providers) })
      .where('connection_id', '=', connection_id)
      .execute()
  }

  async function list(caller: Caller): Promise<{ default_model_id: string; models: Model[] }> {
    const rows = await db
      .selectFrom('worker_connections')
      .select('models')
      .where('team_id', '=', caller.team_id)
      .where('last_seen_at', '>', new Date(clock.now().getTime() - UNSEEN_MS))
      .where('models', 'is not', null)
      .execute()
    const told = rows.flatMap(({ models }) => z.array(ProviderModels).safeParse(models).data ?? [])
    const known = KNOWN.flatMap((provider) => modelsOf(provider, told))
    const custom = told.filter(({ provider }) => provider === 'custom')
    const own = unique(custom).map(({ id, display_name }) => ({
      id: `custom/${id}`,
      display_name: display_name ?? id,
      provider: 'UNKNOWN' as const,
      vision_supported: false,
      description: "A model of your own endpoint (the workers' BATON_MODEL_BASE_URL).",
      ...reasonOf(custom),
    }))
    const all = [...known, ...own]
    const auto: Model = {
      id: DEFAULT_MODEL_ID,
      display_name: 'Auto',
      provider: 'UNKNOWN',
      vision_supported: true,
      description: 'The usual model of the first provider that the worker has a key for.',
      ...(all.some(({ disable_reason }) => disable_reason === undefined) ? {} : { disable_reason: 'ADMIN_DISABLED' }),
    }
    return { default_model_id: DEFAULT_MODEL_ID, models: [auto, ...all, SCRIPTED] }
  }

  return { said, list }
}

const SCRIPTED: Model = {
  id: 'scripted',
  display_name: 'Scripted',
  provider: 'UNKNOWN',
  vision_supported: false,
  description: 'No model: says what a script says, to see Baton work without a key.',
}

function modelsOf(provider: (typeof KNOWN)[number], told: ProviderModels[]): Model[] {
  const own = told.filter((one) => one.provider === provider)
  const usual = DEFAULT_MODELS[provider]
  const listed = unique(own)
  const models = listed.some(({ id }) => id === usual) ? listed : [{ id: usual }, ...listed]
  return models.map(({ id, display_name }: ProviderModels['models'][number]) => ({
    id,
    display_name: display_name ?? id,
    provider: ({ anthropic: 'ANTHROPIC', openai: 'OPENAI', gemini: 'GOOGLE' } as const)[provider],
    vision_supported: seesImages(id),
    ...reasonOf(own),
  }))
}

/** Any worker that reaches it will do. */
function reasonOf(told: ProviderModels[]): Pick<Model, 'disable_reason'> {
  const states = told.map(({ status }) => status)
  if (states.includes('ok')) return {}
  if (states.includes('exhausted')) return { disable_reason: 'OUT_OF_REQUESTS' }
  return { disable_reason: states.includes('away') ? 'PROVIDER_OUTAGE' : 'ADMIN_DISABLED' }
}

function unique(told: ProviderModels[]): ProviderModels['models'] {
  const models = told.flatMap((one) => one.models)
  return [...new Map(models.map((model) => [model.id, model])).values()].sort((a, b) => (a.id < b.id ? -1 : 1))
}

/** No provider says it in its list. By their documents: all but the first of each family, which are gone. */
const seesImages = (id: string): boolean =>
  /^(claude-(?!2|instant)|gemini-(?!1\.0)|gpt-(4o|4\.|4-turbo|[5-9])|o[134]|chatgpt-)/.test(id) &&
  !/^o[13]-mini/.test(id)
