import { expect, test } from 'vitest'
import { chooseModel } from './models.ts'
import { Settings } from './settings.ts'

test('a model named with a slash is of a provider where one is so called, else of the address that is set', () => {
  const settings = Settings.parse({ BATON_MODEL_BASE_URL: 'http://127.0.0.1:11434/v1', ANTHROPIC_API_KEY: 'k' })
  expect(chooseModel(settings, 'anthropic/claude')).toEqual({ provider: 'anthropic', model_id: 'claude' })
  for (const model_id of ['meta/llama', 'constructor/small'])
    expect(chooseModel(settings, model_id)).toEqual({ provider: 'custom', model_id })
})
