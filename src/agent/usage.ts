/** Token counts of the provider, in Baton's four buckets that do not overlap. */
import type { LanguageModelUsage } from 'ai'
import type { Usage } from '../contract/usage.ts'

export type Tokens = Pick<Usage, 'input_tokens' | 'output_tokens' | 'cache_read_tokens' | 'cache_write_tokens'>

export const NO_TOKENS: Tokens = { input_tokens: 0, output_tokens: 0, cache_read_tokens: 0, cache_write_tokens: 0 }

/** The SDK counts cached tokens within `inputTokens`. */
export function parseTokens({ inputTokens, outputTokens, inputTokenDetails }: LanguageModelUsage): Tokens {
  const cache_read_tokens = inputTokenDetails.cacheReadTokens ?? 0
  const cache_write_tokens = inputTokenDetails.cacheWriteTokens ?? 0
  const uncached = inputTokenDetails.noCacheTokens ?? (inputTokens ?? 0) - cache_read_tokens - cache_write_tokens
  return {
    input_tokens: Math.max(0, uncached),
    output_tokens: outputTokens ?? 0,
    cache_read_tokens,
    cache_write_tokens,
  }
}

export const addTokens = (a: Tokens, b: Tokens): Tokens => ({
  input_tokens: a.input_tokens + b.input_tokens,
  output_tokens: a.output_tokens + b.output_tokens,
  cache_read_tokens: a.cache_read_tokens + b.cache_read_tokens,
  cache_write_tokens: a.cache_write_tokens + b.cache_write_tokens,
})

/** Tokens that the last model call put into the context. */
export const contextTokens = (t: Tokens): number =>
  t.input_tokens + t.cache_read_tokens + t.cache_write_tokens + t.output_tokens
