/** What an execution used. Tokens are in four buckets that do not overlap; a total is their sum. */
import { z } from 'zod'

const Count = z.number().nonnegative()

export const Usage = z.object({
  /** Prompt tokens that were neither read from nor written to a cache. */
  input_tokens: Count.default(0),
  output_tokens: Count.default(0),
  cache_read_tokens: Count.default(0),
  cache_write_tokens: Count.default(0),
  /** US dollars as the harness or provider stated them; absent when neither did. */
  cost_usd: Count.optional(),
  cpu_seconds: Count.optional(),
  peak_memory_bytes: Count.optional(),
  wall_seconds: Count.optional(),
  model: z.string().optional(),
})
export type Usage = z.infer<typeof Usage>

export const NO_USAGE: Usage = { input_tokens: 0, output_tokens: 0, cache_read_tokens: 0, cache_write_tokens: 0 }

export const totalTokens = (u: Usage): number =>
  u.input_tokens + u.output_tokens + u.cache_read_tokens + u.cache_write_tokens

const Costs = z.object({
  input_cost_usd: Count,
  output_cost_usd: Count,
  input_cache_read_cost_usd: Count,
  input_cache_write_cost_usd: Count,
})

/** What one model was used for. The four costs sum up to what was stated; 0 where nobody stated any. */
export const ModelUsage = z.object({
  /** Split by the tokens' usual prices, so only their sum is exact. */
  cost_usd: Costs,
  token_count: z.object({ input: Count, output: Count, input_cache_read: Count, input_cache_write: Count }),
  web_search_count: Count,
  web_search_cost_usd: Count,
})
export type ModelUsage = z.infer<typeof ModelUsage>

const UsageByModel = z.record(z.string(), ModelUsage)

export const CategoryUsage = z.object({
  platform_usage_usd: Count,
  /** By the name of the model. All that Baton uses is paid for with its operator's own keys. */
  byok_inference_usage: UsageByModel.optional(),
  custom_endpoint_inference_usage: UsageByModel.optional(),
  direct_api_inference_usage: UsageByModel.optional(),
})

/** The public, Oz-shaped form. There are no credits, so their fields stay away. */
export const RequestUsage = z.object({
  inference_cost: Count.optional(),
  compute_cost: Count.optional(),
  platform_cost: Count.optional(),
  inference_cost_usd: Count.optional(),
  compute_cost_usd: Count.optional(),
  platform_cost_usd: Count.optional(),
  total_tokens: Count.optional(),
  /** Only where the harness itself states it. */
  inference_cost_breakdown_usd: Costs.optional(),
  usage_by_category: z.record(z.string(), CategoryUsage).optional(),
  /** From here on ours. */
  input_tokens: Count.optional(),
  output_tokens: Count.optional(),
  cache_read_tokens: Count.optional(),
  cache_write_tokens: Count.optional(),
  cpu_seconds: Count.optional(),
  peak_memory_bytes: Count.optional(),
  wall_seconds: Count.optional(),
})
export type RequestUsage = z.infer<typeof RequestUsage>

/** What tokens of each kind usually cost, compared with those of input. */
const PRICES = { input: 1, output: 5, input_cache_read: 0.1, input_cache_write: 1.25 } as const

export function modelUsage(used: Usage): ModelUsage {
  const token_count = {
    input: used.input_tokens,
    output: used.output_tokens,
    input_cache_read: used.cache_read_tokens,
    input_cache_write: used.cache_write_tokens,
  }
  const weights = {
    input: token_count.input * PRICES.input,
    output: token_count.output * PRICES.output,
    input_cache_read: token_count.input_cache_read * PRICES.input_cache_read,
    input_cache_write: token_count.input_cache_write * PRICES.input_cache_write,
  }
  const whole = weights.input + weights.output + weights.input_cache_read + weights.input_cache_write
  const share = (weight: number) => (whole === 0 ? 0 : ((used.cost_usd ?? 0) * weight) / whole)
  return {
    cost_usd: {
      input_cost_usd: share(weights.input),
      output_cost_usd: share(weights.output),
      input_cache_read_cost_usd: share(weights.input_cache_read),
      input_cache_write_cost_usd: share(weights.input_cache_write),
    },
    token_count,
    web_search_count: 0,
    web_search_cost_usd: 0,
  }
}
