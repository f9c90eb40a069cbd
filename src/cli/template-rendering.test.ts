import { expect, test } from 'vitest'
import { isRequired, type Rendered, readValues, renderWith, Template, TemplateTrouble } from './template-rendering.ts'
import { listTemplates } from './templates.ts'

const PARAMETERS = {
  repo: { description: 'where', type: 'repository' },
  task: { description: 'what' },
  shards: { description: 'which', list: true, default: ['x'] },
  at_once: { description: 'how many', type: 'number', default: 2 },
  model: { description: 'which one', required: false },
}
const BATCH = {
  title: '{{task}} in {{ shards }}',
  concurrency: '{{at_once}}',
  tasks: [
    {
      for_each: 'shards',
      name: 'shard {{number}}',
      model_id: '{{model}}',
      prompt: '{{task}}: {{item}} of {{repo}}; {{.Names}} stay',
    },
    { name: 'all', prompt: '{{task}}', depends_on: ['shard *'] },
  ],
}

const make = (more: object = {}) =>
  Template.parse({
    name: 'test',
    title: 'Test',
    description: 'For a test.',
    kind: 'batch',
    parameters: PARAMETERS,
    batch: BATCH,
    ...more,
  })
const render = (template: Template, ...sets: string[]): Rendered =>
  renderWith(
    template,
    readValues(template, sets, (given) => `/at/${given}`),
  )

test('values take their places, typed where a place stands alone, and items become tasks', () => {
  const rendered = render(make(), 'repo=app', 'task=Say "{{model}}"', 'shards=a\nb\n', 'shards=c d', 'at_once=5')
  expect(rendered).toMatchObject({
    kind: 'batch',
    batch: {
      title: 'Say "{{model}}" in a\nb\nc d',
      concurrency: 5,
      tasks: [
        { name: 'shard 1', prompt: 'Say "{{model}}": a of /at/app; {{.Names}} stay' },
        { name: 'shard 2' },
        { name: 'shard 3', prompt: 'Say "{{model}}": c d of /at/app; {{.Names}} stay' },
        { name: 'all', depends_on: ['shard 1', 'shard 2', 'shard 3'] },
      ],
    },
  })
  expect(JSON.stringify(rendered)).not.toContain('model_id')
  expect(JSON.stringify(render(make(), 'repo=a', 'task=t', 'model=m'))).toContain('"model_id":"m"')
})

test.each([
  ['unknown', ['repo=a', 'task=t', 'shard=a', 'x=1'], /no parameter shard, x\. It has repo, task, shards/],
  ['missing', ['model=m'], /needs repo, task\. Give it with --set repo=… --set task=…/],
  ['empty', ['repo=a', 'task= '], /needs task\./],
  ['no pair', ['repo'], /"repo" is not NAME=VALUE/],
  ['twice', ['repo=a', 'task=t', 'task=u'], /task is set 2 times, and is no list/],
  ['no number', ['repo=a', 'task=t', 'at_once=many'], /at_once is a number, and "many" is none/],
  ['not in bounds', ['repo=a', 'task=t', 'at_once=0'], /concurrency/],
])('%s values are refused by name', (_, sets, words) => {
  expect(() => render(make(), ...sets)).toThrow(words)
})

test('a template that names what it does not have, or has what it does not use, is refused', () => {
  const tasks = [{ prompt: '{{task}}{{nothing}}' }]
  expect(() => render(make({ batch: { tasks } }), 'repo=a', 'task=t')).toThrow(/\{\{nothing\}\} is no parameter/)
  expect(() => render(make({ batch: { tasks: [{ prompt: '{{task}}' }] } }), 'repo=a', 'task=t')).toThrow(
    /never uses its parameter repo, shards, at_once, model/,
  )
  const waiting = [...BATCH.tasks, { prompt: 'x', depends_on: ['part *'] }]
  expect(() => render(make({ batch: { ...BATCH, tasks: waiting } }), 'repo=a', 'task=t')).toThrow(
    /no task is named like "part \*"/,
  )
  const each = [{ for_each: 'task', prompt: '{{item}}' }]
  expect(() => render(make({ batch: { tasks: each } }), 'repo=a', 'task=t')).toThrow(TemplateTrouble)
  expect(Template.safeParse({ ...make(), kind: 'run' }).success).toBe(false)
})

test('every template that comes with Baton can be rendered, and is described in docs/patterns.md', async () => {
  const { readFile } = await import('node:fs/promises')
  const text = await readFile(new URL('../../docs/patterns.md', import.meta.url), 'utf8')
  const templates = await listTemplates()
  expect(templates.length).toBeGreaterThanOrEqual(8)
  for (const template of templates) {
    const needed = Object.entries(template.parameters).filter(([, parameter]) => isRequired(parameter))
    const rendered = render(template, ...needed.map(([name]) => `${name}=one`))
    expect(JSON.stringify(rendered), template.name).not.toMatch(/\{\{\s*[a-z]/)
    expect(text).toContain(`--template ${template.name} `)
  }
})
