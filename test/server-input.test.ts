/** What clients send that is not as it should be: refused in a sentence, by name, and never a bug. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Problem } from '../src/contract/index.ts'
import { type House, startHouse } from './house/house.ts'

let house: House
beforeAll(async () => {
  house = await startHouse()
})
afterAll(() => house.close())

async function create(body: string | Uint8Array<ArrayBuffer>): Promise<{ status: number; answer: unknown }> {
  const response = await fetch(`${house.url}/api/v1/agent/runs`, {
    method: 'POST',
    headers: { authorization: `Bearer ${house.api_key}`, 'content-type': 'application/json' },
    body,
  })
  return { status: response.status, answer: await response.json() }
}

const big = 'x'.repeat(1024 * 1024 + 1)
const refused: [string, string | Uint8Array<ArrayBuffer>, RegExp][] = [
  ['a prompt above the limit', JSON.stringify({ prompt: big }), /`prompt` is not valid: a prompt is at most 1048576/],
  ['a prompt that is a number', '{"prompt":7}', /`prompt` is not valid: .*expected string/],
  ['a prompt that is a list', '{"prompt":["a"]}', /`prompt` is not valid: .*expected string/],
  ['a prompt that is null, which is none', '{"prompt":null}', /A run needs a prompt or a skill/],
  ['a body that is a list', '[{"prompt":"x"}]', /The body is not valid: .*expected object/],
  ['a body that is text', '"prompt"', /The body is not valid: .*expected object/],
  ['NUL in a prompt', '{"prompt":"a\\u0000b"}', /The text at \/prompt has a NUL character/],
  ['NUL in a title', '{"prompt":"x","title":"a\\u0000b"}', /The text at \/title has a NUL character/],
  ['NUL in a key', '{"prompt":"x","metadata":{"a\\u0000":"b"}}', /NUL character/],
  [
    'NUL deep below',
    '{"prompt":"x","config":{"mcp_servers":{"m":{"command":"c","args":["a","b\\u0000"]}}}}',
    /The text at \/config\/mcp_servers\/m\/args\/1 has a NUL character/,
  ],
  ['NUL unescaped', '{"prompt":"a\0b"}', /not valid JSON at position \d+ \(line 1, column \d+\)/],
  ['a lone high surrogate', '{"prompt":"a\\ud83d"}', /The text at \/prompt has half of a surrogate pair/],
  ['a lone low surrogate', '{"prompt":"x","title":"\\uDE00"}', /The text at \/title has half of a surrogate pair/],
  ['bytes that are no UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d]), /not valid UTF-8/],
  [
    'a key given twice',
    '{"prompt":"a","prompt":"b"}',
    /"prompt" is given twice .* at position 14 \(line 1, column 15\)/,
  ],
  ['a key given twice, once escaped', '{"prompt":"a","pr\\u006fmpt":"b"}', /"prompt" is given twice/],
  ['a key given twice deep below', '{"prompt":"a","config":{"name":"a","name":"b"}}', /"name" is given twice/],
  ['what nests too deep', `{"prompt":${'['.repeat(201)}${']'.repeat(201)}}`, /nested deeper than 200 levels/],
  ['half of a body', '{"prompt":"a', /not valid JSON/],
  ['two bodies', '{"prompt":"a"}{"prompt":"b"}', /not valid JSON at position 14/],
  ['a number that is none', '{"prompt":NaN}', /not valid JSON/],
  ['metadata of another type', '{"prompt":"x","metadata":{"a":{"b":1}}}', /`metadata\.a` is not valid/],
  ['a place beside a parent without one', '{"prompt":"x","placement":"parent"}', /name it in `parent_run_id`/],
  ['a timeout of infinity', '{"prompt":"x","config":{"timeout_minutes":1e999}}', /`config\.timeout_minutes`/],
]
test.each(refused)('%s is refused in a sentence', async (_, body, sentence) => {
  const { status, answer } = await create(body)
  expect(status).toBe(400)
  expect(Problem.parse(answer).error).toMatch(sentence)
})

test.each([
  ['metadata', '{"prompt":"x","metadata":{"__proto__":"y"}}', '/metadata/__proto__'],
  ['metadata, spelled otherwise', '{"prompt":"x","metadata":{"\\u005f_proto__":"y"}}', '/metadata/__proto__'],
  [
    'variables',
    '{"prompt":"x","config":{"environment":{"variables":{"__proto__":"y"}}}}',
    '/config/environment/variables/__proto__',
  ],
  [
    'MCP servers',
    '{"prompt":"x","config":{"mcp_servers":{"__proto__":{"command":"c"}}}}',
    '/config/mcp_servers/__proto__',
  ],
  ['a body', '{"prompt":"x","__proto__":{"title":"forged"}}', '/__proto__'],
])('in %s the key that no object can keep is refused by name, not dropped', async (_, body, pointer) => {
  const { status, answer } = await create(body)
  expect(status).toBe(400)
  expect(Problem.parse(answer)).toMatchObject({
    error: expect.stringMatching(/No object may have the key "__proto__"/),
    errors: [{ pointer }],
  })
})

test('a pointer to a name with a slash leads there', async () => {
  const { answer } = await create('{"prompt":"x","config":{"mcp_servers":{"a/b~c":{"warp_id":"linear"}}}}')
  expect(Problem.parse(answer).errors).toMatchObject([{ pointer: '/config/mcp_servers/a~1b~0c' }])
})

test('a prompt of ten megabytes is refused, and one of a megabyte is taken', async () => {
  const { status, answer } = await create(JSON.stringify({ prompt: 'x'.repeat(10 * 1024 * 1024) }))
  expect(status).toBe(400)
  expect(Problem.parse(answer).error).toMatch(/`prompt` is not valid: A prompt is at most 1048576/i)
  expect((await create(JSON.stringify({ prompt: 'x'.repeat(1024 * 1024) }))).status).toBe(200)
})

test('a body that comes without its length is refused when it grows too large', async () => {
  const chunk = new TextEncoder().encode(' '.repeat(1024 * 1024))
  let sent = 0
  const body = new ReadableStream({
    pull(stream) {
      sent += chunk.length
      stream.enqueue(chunk)
    },
  })
  const outcome = await fetch(`${house.url}/api/v1/agent/messages`, {
    method: 'POST',
    headers: { authorization: `Bearer ${house.api_key}`, 'content-type': 'application/json' },
    body,
    duplex: 'half',
  }).catch((error: Error) => String(error.cause))
  // The server answers and lets go of the connection while the body is still on its way.
  if (typeof outcome === 'string') expect(outcome).toMatch(/EPIPE|ECONNRESET|socket/i)
  else expect(outcome.status).toBe(413)
  expect(sent).toBeLessThan(64 * 1024 * 1024)
})

const taken: [string, string, object][] = [
  [
    'keys that objects have by nature',
    '{"prompt":"x","metadata":{"constructor":"a","toString":"b"}}',
    {
      metadata: { constructor: 'a', toString: 'b' },
    },
  ],
  ['keys that we do not know', '{"prompt":"x","constructor":{"prototype":{"a":1}},"hasOwnProperty":1}', { title: 'x' }],
  ['the same key in different objects', '{"prompt":"x","title":"t","config":{"name":"t"}}', { title: 't' }],
  ['a whole surrogate pair', '{"prompt":"\\ud83d\\ude00"}', { prompt: '😀' }],
  [
    'what looks like an escape',
    '{"prompt":"\\\\u0000 \\\\ud800 \\"prompt\\":\\\\"}',
    {
      prompt: '\\u0000 \\ud800 "prompt":\\',
    },
  ],
]
test.each(taken)('%s does no harm', async (_, body, expected) => {
  const { status, answer } = await create(body)
  expect(status, JSON.stringify(answer)).toBe(200)
  const { run_id } = answer as { run_id: string }
  expect(await house.client.runs.get({ params: { run_id } })).toMatchObject(expected)
})

test('a query with NUL is refused by name, and other strange text finds nothing', async () => {
  const list = async (query: string) => {
    const response = await house.client.raw('GET', `/api/v1/agent/runs?${query}`).catch((thrown: unknown) => thrown)
    return response instanceof Response ? response.status : (response as { status: number; message: string })
  }
  for (const name of ['q', 'name', 'creator', 'cursor']) {
    expect(await list(`${name}=a%00b`)).toMatchObject({ status: 400, message: expect.stringContaining(`\`${name}\``) })
  }
  for (const query of ['q=%25%5C_', "name='--", 'q=%F0%9F', 'creator=%EF%BF%BF', 'q=%ED%A0%80']) {
    expect(await list(query), query).toBe(200)
  }
})

test('what a program wrote is kept, whatever it wrote', async () => {
  const worker = await house.worker()
  await house.client.runs.create({ body: { prompt: 'x' } })
  const piece = await worker.next()
  const { run_id } = piece
  piece.claim()
  await piece.start()
  await piece.append({ kind: 'text', text: 'a\0b \ud800 c 😀' })
  const details = JSON.parse('{"__proto__":"kept","constructor":"kept"}') as Record<string, unknown>
  await piece.append({ kind: 'system', level: 'info', name: 'odd', text: 'odd', details })
  const message = 'died \0 of \udfff'
  await piece.finish({
    outcome: 'FAILED',
    failure: { error_code: 'environment_setup_failed', message, retryable: false },
  })
  const { entries } = await house.client.transcripts.list({ params: { run_id } })
  expect(entries.map(({ body }) => body)).toEqual([
    { kind: 'text', text: 'a\ufffdb \ufffd c 😀' },
    {
      kind: 'system',
      level: 'info',
      name: 'odd',
      text: 'odd',
      details: { '__proto__\ufffd': 'kept', constructor: 'kept' },
    },
  ])
  const run = await house.client.runs.get({ params: { run_id } })
  expect(run.status_message?.message).toBe('died \ufffd of \ufffd')
})
