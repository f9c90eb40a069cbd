/** Token counts as ACP harnesses report them, in Baton's four buckets. */
import { z } from 'zod'
import { NO_USAGE, Usage } from '../../contract/index.ts'

const Count = z
  .number()
  .nonnegative()
  .nullish()
  .transform((n) => n ?? 0)

/** `usage` of a prompt's result (ACP, unstable in 2.4): input excludes what was read from or written to a cache. */
const PromptUsage = z.looseObject({
  inputTokens: Count,
  outputTokens: Count,
  cachedReadTokens: Count,
  cachedWriteTokens: Count,
  thoughtTokens: Count,
  totalTokens: Count,
})

/** Gemini CLI 0.61 reports `_meta.quota` alone. */
const Quota = z.looseObject({
  quota: z.looseObject({
    token_count: z.looseObject({ input_tokens: Count, output_tokens: Count }),
    model_usage: z
      .array(z.looseObject({ model: z.string() }))
      .optional()
      .catch(undefined),
  }),
})

/** The built-in agent reports in these very buckets. */
const Own = z.looseObject({ baton: z.looseObject({ usage: Usage }) })

const Result = z.looseObject({ usage: z.unknown().optional(), _meta: z.unknown().optional() })
const Cost = z.looseObject({ cost: z.looseObject({ amount: z.number().nonnegative(), currency: z.string() }) })

/** What one turn used; null where its result does not say. */
export function turnUsage(result: unknown): Usage | null {
  const parsed = Result.safeParse(result)
  if (!parsed.success) return null
  const own = Own.safeParse(parsed.data._meta)
  if (own.success) return own.data.baton.usage
  const usage = PromptUsage.safeParse(parsed.data.usage)
  if (usage.success) {
    const u = usage.data
    const parts = u.inputTokens + u.outputTokens + u.cachedReadTokens + u.cachedWriteTokens
    // Thinking is part of the output where the total does not count it apart.
    const apart = u.totalTokens >= parts + u.thoughtTokens ? u.thoughtTokens : 0
    return {
      input_tokens: u.inputTokens,
      output_tokens: u.outputTokens + apart,
      cache_read_tokens: u.cachedReadTokens,
      cache_write_tokens: u.cachedWriteTokens,
    }
  }
  const quota = Quota.safeParse(parsed.data._meta)
  if (!quota.success) return null
  const { token_count, model_usage } = quota.data.quota
  const model = model_usage?.at(-1)?.model
  return {
    ...NO_USAGE,
    input_tokens: token_count.input_tokens,
    output_tokens: token_count.output_tokens,
    ...(model === undefined ? {} : { model }),
  }
}

/** What the turn used so far, where an update says so. */
export function usageSoFar(update: unknown): Usage | null {
  const own = Own.safeParse(z.looseObject({ _meta: z.unknown() }).safeParse(update).data?._meta)
  return own.success ? own.data.baton.usage : null
}

/** Dollars of the whole session so far, from a `usage_update`; null where it does not say. */
export function statedCost(update: unknown): number | null {
  const parsed = Cost.safeParse(update)
  return parsed.success && parsed.data.cost.currency === 'USD' ? parsed.data.cost.amount : null
}

export const addUsage = (a: Usage, b: Usage): Usage => ({
  ...a,
  ...b,
  input_tokens: a.input_tokens + b.input_tokens,
  output_tokens: a.output_tokens + b.output_tokens,
  cache_read_tokens: a.cache_read_tokens + b.cache_read_tokens,
  cache_write_tokens: a.cache_write_tokens + b.cache_write_tokens,
})
