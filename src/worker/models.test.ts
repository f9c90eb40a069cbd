import { inspect } from 'node:util'
import { expect, test } from 'vitest'
import { ModelsMisconfigured, readModels } from './models.ts'

test("no key, no provider; a key alone means the provider's own address", () => {
  expect(readModels({})).toEqual([])
  expect(readModels({ ANTHROPIC_API_KEY: '', ANTHROPIC_BASE_URL: 'https://x.example' })).toEqual([])
  const [model] = readModels({ OPENAI_API_KEY: 'k' })
  expect(model).toMatchObject({ provider: 'openai', base_url: 'https://api.openai.com/v1' })
  expect(model?.api_key?.reveal()).toBe('k')
})

test("a server of one's own needs an address but no key", () => {
  const [model] = readModels({ BATON_MODEL_BASE_URL: 'http://127.0.0.1:11434/v1/', BATON_MODEL_ID: 'small' })
  expect(model).toEqual({ provider: 'custom', base_url: 'http://127.0.0.1:11434/v1', model_id: 'small' })
})

test('a key is shown by no print, text or JSON', () => {
  const models = readModels({ GEMINI_API_KEY: 'very-secret' })
  expect(
    `${inspect(models, { depth: 9, showHidden: true })}${JSON.stringify(models)}${models[0]?.api_key}`,
  ).not.toContain('very-secret')
})

test.each(['ftp://x.example', 'nonsense', 'https://user:word@x.example', 'https://x.example/?a=b'])(
  '%s is no address of a model',
  (url) => {
    expect(() => readModels({ ANTHROPIC_API_KEY: 'k', ANTHROPIC_BASE_URL: url })).toThrow(ModelsMisconfigured)
  },
)
