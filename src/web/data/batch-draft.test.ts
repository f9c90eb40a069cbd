import { expect, test } from 'vitest'
import { CreateBatch, Fault } from '../../contract/index.ts'
import { checkBatch, emptyBatch, linesOf, newTask, requestOfBatch, splitTask, wrongOf } from './batch-draft.ts'

const draft = (...tasks: Parameters<typeof newTask>[0][]) => ({ ...emptyBatch(), tasks: tasks.map(newTask) })

test('a pasted list is a task a line, without the marks of the list', () => {
  expect(linesOf('- one\n\n2) two\n  * three \n4 is a number')).toEqual(['one', 'two', 'three', '4 is a number'])
  const rows = splitTask(newTask({ prompt: 'a\nb', name: 'both', harness: 'codex' }))
  expect(rows.map(({ prompt, name, harness }) => [prompt, name, harness])).toEqual([
    ['a', '', 'codex'],
    ['b', '', 'codex'],
  ])
  expect(new Set(rows.map((row) => row.key)).size).toBe(2)
})

test('a row in which nothing is written is left out, and the request is one that the contract takes', () => {
  const given = draft({ prompt: 'one', retries: '3', depends_on: 'task-2, ' }, {}, { prompt: 'two', retry: 'all' })
  expect(checkBatch(given)).toEqual({})
  expect(CreateBatch.parse(requestOfBatch(given))).toMatchObject({
    concurrency: 4,
    defaults: { harness: 'baton' },
    tasks: [
      { prompt: 'one', max_retries: 3, depends_on: ['task-2'] },
      { prompt: 'two', retry: 'all' },
    ],
  })
})

test('what is wrong is told at its field, also where the server found it', () => {
  const given = draft(
    { prompt: 'one', name: 'a' },
    {},
    { prompt: 'two', name: 'A' },
    { name: 'no-prompt', retries: '20' },
  )
  const [, , second, third] = given.tasks
  expect(checkBatch({ ...given, concurrency: '0' })).toMatchObject({
    concurrency: expect.stringContaining('1 to 1000'),
    [`${second?.key}.name`]: 'Task 1 has this name too.',
    [`${third?.key}.prompt`]: 'Write what this task is to do.',
    [`${third?.key}.retries`]: expect.stringContaining('0 to 19'),
  })
  const named = draft({ prompt: 'one', name: '!' })
  expect(Object.keys(checkBatch(named))).toEqual([`${named.tasks[0]?.key}.name`])
  const fault = new Fault('invalid_request', 'Nothing was started.', {
    errors: [
      { pointer: '/tasks/1/config/environment_id', detail: 'There is none.' },
      { pointer: '/tasks', detail: 'max_batch_tasks is 2' },
    ],
  })
  expect(wrongOf(given, fault)).toEqual({
    [`${second?.key}.environment`]: 'There is none.',
    batch: 'max_batch_tasks is 2',
  })
})
