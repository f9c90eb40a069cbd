import { expect, test } from 'vitest'
import type { Plan } from '../../contract/index.ts'
import { carryEdits, checkEdits, isEdited, settleEdits, withField } from './plan-draft.ts'

const plan = (part: Partial<Plan> = {}): Plan => ({
  plan_id: crypto.randomUUID(),
  run_id: crypto.randomUUID(),
  version: 1,
  state: 'proposed',
  author: 'agent',
  title: 'A plan',
  document: 'The text.',
  children: [
    { name: 'one', prompt: 'Do one.' },
    { name: 'two', prompt: 'Do two.' },
  ],
  config: { parallelism: 2 },
  created_at: '2026-01-01T00:00:00Z',
  decided_at: null,
  decided_by: null,
  words: null,
  artifact_uid: 'a',
  ...part,
})

test('what is edited back to what was proposed is no edit', () => {
  const was = plan()
  const { document, config } = was
  const children = was.children.map(({ name, prompt }) => ({ prompt, name }))
  expect(isEdited(settleEdits(was, { document, children, config }))).toBe(false)
  expect(settleEdits(was, { config: { parallelism: 3 } })).toEqual({ config: { parallelism: 3 } })
})

test('an empty field is left out', () => {
  expect(withField({ model_id: 'big', harness: 'codex' }, 'model_id', '')).toEqual({ harness: 'codex' })
})

test('edits of a version are done to the next where the agent has not changed the same', () => {
  const from = plan()
  const edits = {
    document: 'My text.',
    config: { parallelism: 2, model_id: 'big' },
    children: [{ name: 'one', prompt: 'Do one well.' }],
  }
  const to = plan({
    version: 2,
    document: 'Another text.',
    config: { parallelism: 5 },
    children: [
      { name: 'one', prompt: 'Do one.' },
      { name: 'two', prompt: 'Do two otherwise.' },
      { name: 'three', prompt: 'Do three.' },
    ],
  })
  expect(carryEdits(from, edits, to)).toEqual({
    config: { parallelism: 5, model_id: 'big' },
    children: [
      { name: 'one', prompt: 'Do one well.' },
      { name: 'three', prompt: 'Do three.' },
    ],
  })
})

test('edits that the server would refuse are told by their field', () => {
  expect(
    checkEdits({
      document: ' ',
      config: { parallelism: 0 },
      children: [
        { name: 'one', prompt: '' },
        { name: 'ONE ', prompt: 'x' },
      ],
    }),
  ).toMatchObject({
    document: 'A plan needs a text.',
    'config.parallelism': 'A whole number from 1 to 1000, or nothing.',
    'children.0.prompt': 'Write what it is to do.',
    'children.1.name': 'Another child has this name.',
  })
})
