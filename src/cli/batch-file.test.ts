import { expect, test } from 'vitest'
import { isDocument, readDocument, readLines } from './batch-file.ts'
import { endOf } from './batches.ts'

test('text is a document where it begins like one or has a word of a batch, else lines of tasks', () => {
  for (const text of ['{"tasks"', '[{"prompt": "x"}]', '---\n', '- one\n- two', 'tasks:\n  - x', '# why\ntitle: T\n'])
    expect(isDocument(text), text).toBe(true)
  for (const text of [
    'Fix the bug',
    '[bug] fix it',
    'npm test -- --watch=false\nnpm run lint',
    'Fix: it',
    'taskset: x',
  ])
    expect(isDocument(text), text).toBe(false)
})

test('a place is that of the value, or of what encloses one that is missing', async () => {
  const read = await readDocument('tasks:\n  - prompt: a\n  - prompt: b\n    name: c\n', 'f.yaml')
  expect(read.placeOf(['tasks', 1, 'name'])).toBe('f.yaml:4:11')
  expect(read.placeOf(['tasks', 1, 'config', 'harness'])).toBe('f.yaml:3:5')
  const list = await readDocument('- a\n- b\n', 'stdin')
  expect(list.batch.tasks).toEqual([{ prompt: 'a' }, { prompt: 'b' }])
  expect(list.placeOf(['tasks', 1])).toBe('stdin:2:3')
  expect(readLines('\n\na\n\nb', 'stdin').placeOf(['tasks', 1])).toBe('stdin:5')
})

test('a key that no object can keep is refused, not dropped, also where the text is in itself', async () => {
  const task = (config: string) => readDocument(`- prompt: a\n  config: ${config}\n`, 'f.yaml')
  await expect(task('{mcp_servers: {__proto__: {command: c}}}')).rejects.toThrow(/f\.yaml: .*"__proto__"/)
  await expect(task('&a {environment: *a}')).resolves.toMatchObject({ name: 'f.yaml' })
})

test('of last words the end is kept, from the beginning of a word', () => {
  expect(endOf('all of it', 20)).toBe('all of it')
  expect(endOf('the first half and the second half', 16)).toBe('… second half')
  expect(endOf('x'.repeat(50), 10)).toMatch(/^… x+$/)
  expect(endOf(null, 10)).toBe('')
})
