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

/** The public, Oz-shaped form. */
export const RequestUsage = z.object({
  total_tokens: Count.optional(),
  inference_cost_usd: Count.optional(),
  input_tokens: Count.optional(),
  output_tokens: Count.optional(),
  cache_read_tokens: Count.optional(),
  cache_write_tokens: Count.optional(),
  cpu_seconds: Count.optional(),
  peak_memory_bytes: Count.optional(),
  wall_seconds: Count.optional(),
})
export type RequestUsage = z.infer<typeof RequestUsage>
