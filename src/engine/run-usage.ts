/** What a run has used, over all its executions. */
import { type RawBuilder, sql } from 'kysely'
import { z } from 'zod'
import { type AgentConfig, modelUsage, type RequestUsage, Usage } from '../contract/index.ts'

/** How the public API calls what the agent itself uses. */
const CATEGORY = 'primary_agent'
const UNKNOWN_MODEL = 'unknown'

const ByModel = z.array(
  Usage.omit({ model: true }).extend({ model: z.string().nullable(), cost_usd: z.number().nullable() }),
)

/** The executions of a row of `runs` by the model that they say they used, as a scalar subquery. */
export const usageByModel: RawBuilder<unknown> = sql`(
  select coalesce(jsonb_agg(m), '[]') from (
    select usage->>'model' as model, sum((usage->>'input_tokens')::float8) as input_tokens,
      sum((usage->>'output_tokens')::float8) as output_tokens,
      coalesce(sum((usage->>'cache_read_tokens')::float8), 0) as cache_read_tokens,
      coalesce(sum((usage->>'cache_write_tokens')::float8), 0) as cache_write_tokens,
      sum((usage->>'cost_usd')::float8) as cost_usd
    from executions where executions.run_id = runs.run_id and usage ? 'input_tokens' group by 1
  ) m)`

type Used = {
  cpu_seconds: number | null
  peak_memory_bytes: number | null
  run_seconds: number | null
  models: unknown
}

export function usageOf(used: Used, config: AgentConfig): { request_usage?: RequestUsage } {
  const models = ByModel.parse(used.models)
  if (models.length === 0 && used.cpu_seconds === null) return {}
  const sum = (of: (model: (typeof models)[number]) => number | null) =>
    models.reduce((total, model) => total + (of(model) ?? 0), 0)
  const tokens = {
    input_tokens: sum((model) => model.input_tokens),
    output_tokens: sum((model) => model.output_tokens),
    cache_read_tokens: sum((model) => model.cache_read_tokens),
    cache_write_tokens: sum((model) => model.cache_write_tokens),
  }
  const total_tokens = tokens.input_tokens + tokens.output_tokens + tokens.cache_read_tokens + tokens.cache_write_tokens
  return {
    request_usage: {
      total_tokens,
      ...tokens,
      ...(models.some(({ cost_usd }) => cost_usd !== null) ? { inference_cost_usd: sum((m) => m.cost_usd) } : {}),
      ...(total_tokens === 0 ? {} : { usage_by_category: categories(models, config) }),
      ...(used.cpu_seconds === null ? {} : { cpu_seconds: used.cpu_seconds }),
      ...(used.peak_memory_bytes === null ? {} : { peak_memory_bytes: used.peak_memory_bytes }),
      ...(used.run_seconds === null ? {} : { wall_seconds: used.run_seconds }),
    },
  }
}

function categories(models: z.infer<typeof ByModel>, config: AgentConfig): RequestUsage['usage_by_category'] {
  const asked = config.model_id ?? config.harness?.model_id ?? UNKNOWN_MODEL
  const byok_inference_usage = Object.fromEntries(
    models.map(({ model, cost_usd, ...tokens }) => [
      model ?? asked,
      modelUsage({ ...tokens, ...(cost_usd === null ? {} : { cost_usd }) }),
    ]),
  )
  return { [CATEGORY]: { platform_usage_usd: 0, byok_inference_usage } }
}
