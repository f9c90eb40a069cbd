import { expect, test } from 'vitest'
import { refusedPrompt, retryAfterIn } from './problems.ts'

test.each([
  ['429 Too many requests. Please try again in 20s.', 20],
  ['rate limit: retry-after: 30', 30],
  ['Retry after 1.5 minutes', 90],
  ['overloaded, try again in 250ms', 0.25],
  ['Please retry in 2 hours', 7_200],
  ['try again in 400 hours', 86_400],
  ['try again later', undefined],
  ['it ran for 20s', undefined],
])('what a provider says of coming back is understood: %s', (text, seconds) => {
  expect(retryAfterIn(text)).toBe(seconds)
})

test('a refused prompt carries it, from words or from the built-in agent', () => {
  const said = refusedPrompt('Codex', '', { message: '429: try again in 20s' }, '')
  expect(said).toMatchObject({ failure: { reason: 'model_busy', retry_after_s: 20 } })
  const data = { error_code: 'resource_unavailable', retryable: true, reason: 'model_rate_limited', retry_after_s: 7 }
  expect(refusedPrompt('Baton', '', { message: 'busy', data }, '')).toMatchObject({ failure: { retry_after_s: 7 } })
  expect(refusedPrompt('Codex', '', { message: 'boom' }, '')).not.toHaveProperty('failure.retry_after_s')
})
