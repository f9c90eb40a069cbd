/** Files that a run is given: with its prompt, and later; in the sandbox of whichever execution works on it. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ATTACHMENT_BYTES_MAX, ATTACHMENTS_MAX, FILES_A_RUN_MAX } from '../src/contract/index.ts'
import { makeHome } from './cli/baton.ts'
import { workByHand } from './house/hand.ts'
import { type House, startHouse } from './house/house.ts'
import type { ScriptedWorker } from './house/worker.ts'

let folder: string
let house: House
let worker: ScriptedWorker

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baton-attachments-'))
  house = await startHouse({ max_concurrent_runs: 100, engine_limits: { heartbeat_ms: 200 } })
  worker = await house.worker({ capacity: 100 })
})
afterAll(async () => {
  await house.close()
  rmSync(folder, { recursive: true, force: true })
})

const config = { harness: { type: 'claude' } }
const file = (file_name: string, data: string | Buffer, mime_type = 'text/plain') => ({
  file_name,
  mime_type,
  data: Buffer.from(data).toString('base64'),
})

/** Sent to the addresses that the server gives; answers the ids. */
async function send(run_id: string, files: { filename: string; content: string }[]): Promise<string[]> {
  const body = { files: files.map(({ filename }) => ({ filename, mime_type: 'text/plain' })) }
  const { attachments } = await house.client.attachments.prepare({ params: { run_id }, body })
  for (const [at, { upload_url }] of attachments.entries()) {
    const response = await fetch(upload_url, { method: 'PUT', body: files[at]?.content ?? '' })
    expect(response.status).toBe(200)
  }
  return attachments.map(({ attachment_id }) => attachment_id)
}

test('files that come with a run lie in its sandbox, outside its repositories, and its agent is told where', async () => {
  const picture = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0, 255, 254])
  const attachments = [file('notes.txt', 'remember me'), file('picture.png', picture, 'image/png')]
  await house.client.runs.create({ body: { prompt: 'Look at it.', config, attachments } })
  let told = ''
  let dir = ''
  const report = await workByHand(house, await worker.next(), folder, async ({ text, start }) => {
    told = text
    dir = start.env.BATON_ATTACHMENTS_DIR ?? ''
    const paths = [...text.matchAll(/^- (\/\S+) \(/gm)].map(([, path]) => path ?? '')
    expect(paths.map((path) => readFileSync(path))).toEqual([Buffer.from('remember me'), picture])
    expect(paths.every((path) => path.startsWith(`${dir}/`) && path.includes('/.baton/'))).toBe(true)
    return undefined
  })
  expect(report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
  expect(told).toMatch(/Look at it\./)
})

/** As a client of Oz writes its messages: the number of a field, and what is in it. */
const message = (...fields: [number, string | Buffer | number][]): Buffer =>
  Buffer.concat(
    fields.map(([number, value]) => {
      if (typeof value === 'number') return Buffer.concat([varint(number << 3), varint(value)])
      const bytes = Buffer.from(value)
      return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes])
    }),
  )
const varint = (value: number): Buffer =>
  value < 0x80
    ? Buffer.from([value])
    : Buffer.concat([Buffer.from([(value & 0x7f) | 0x80]), varint(Math.floor(value / 0x80))])
const base64 = (bytes: Buffer): string => bytes.toString('base64')
const skill = (name: string, description: string, content: string) =>
  base64(
    message(
      [1, message([1, `/home/me/.agents/skills/${name}/SKILL.md`], [2, name], [3, description])],
      [2, message([2, content])],
    ),
  )

test('skills and things referred to come back as they were given, and are files of the sandbox that its agent knows of', async () => {
  const head = '---\nname: deploying\ndescription: How we deploy\n---\nNever on Fridays.\n'
  const runtime_skills = [
    skill('deploying', 'How we deploy', head),
    skill('../evil name', 'It is nowhere else', 'Stay here.'),
    base64(message([1, message([2, 'bundled'], [4, 'of-the-client'])])),
  ]
  const referenced_attachments = [
    message([1, 'Plain words.']),
    message([2, message([1, 'make'], [2, 'all is built'], [3, 2])]),
    message([3, message([1, 'top'], [2, message([1, 'much'])])]),
    message([4, message([1, 'uid'], [3, message([1, 'Title'], [2, 'Body'])])]),
    message([6, message([1, message([1, 'a.ts'], [3, '@@ -1 +1 @@\n-a\n+b\n'])])]),
    message([7, message([1, 'id'], [2, '# Document'])]),
    message([8, message([1, '/elsewhere/x.txt'])]),
    message([99, 'what is this']),
    Buffer.from('no message at all'),
  ].map(base64)
  const body = { prompt: 'Deploy it.', config, runtime_skills, referenced_attachments }
  const { run_id } = await house.client.runs.create({ body })
  const run = await house.client.runs.get({ params: { run_id } })
  expect(run).toMatchObject({ runtime_skills, referenced_attachments })
  const contents: Record<string, string> = {}
  const skills: Record<string, string> = {}
  for (const round of ['first', 'again']) {
    if (round === 'again') await house.client.runs.retry({ params: { run_id } })
    await workByHand(house, await worker.next(), folder, async ({ text }) => {
      for (const [, path = ''] of text.matchAll(/^- (\/\S+) \(/gm))
        contents[path.split('/').at(-1) ?? ''] = readFileSync(path, 'utf8')
      for (const [, name = '', path = ''] of text.matchAll(/^- (.+?): .+ \((\/\S+\/SKILL\.md)\)$/gm)) {
        expect(path).toMatch(/\/\.baton\/.*\/given\/\.agents\/skills\/[\w-]+\/SKILL\.md$/)
        skills[name] = readFileSync(path, 'utf8')
      }
      return undefined
    })
  }
  expect(contents).toEqual({
    'text-1.txt': 'Plain words.',
    'command-2.txt': '$ make\nall is built\n[exit code 2]\n',
    'command-3.txt': '$ top\nmuch\n[still running]\n',
    'notebook-4.md': '# Title\n\nBody\n',
    'changes-5.diff': '--- a/a.ts\n+++ b/a.ts\n@@ -1 +1 @@\n-a\n+b\n',
    'document-6.md': '# Document',
    'path-7.txt': expect.stringContaining('/elsewhere/x.txt'),
    'reference-8.bin': expect.stringContaining('what is this'),
    'reference-9.bin': 'no message at all',
  })
  expect(skills).toEqual({
    deploying: head,
    '../evil name': '---\nname: "../evil name"\ndescription: "It is nowhere else"\n---\n\nStay here.',
  })
  const { entries } = await house.client.transcripts.list({ params: { run_id }, query: { limit: 100 } })
  expect(JSON.stringify(entries)).toMatch(/The skill bundled came without its text/)
})

test('a run follows a skill that came with it, by its name; what is no base64 makes no run', async () => {
  const runtime_skills = [skill('deploying', 'How we deploy', 'Never on Fridays.')]
  await house.client.runs.create({ body: { skill: 'deploying', config, runtime_skills } })
  await workByHand(house, await worker.next(), folder, async ({ text }) => {
    expect(text).toMatch(/^Follow the skill "deploying"[\s\S]*Never on Fridays\.[\s\S]*Skills for you\./)
    return undefined
  })
  for (const wrong of [{ runtime_skills: ['not base64!'] }, { referenced_attachments: Array(51).fill('') }])
    await expect(house.client.runs.create({ body: { prompt: 'x', config, ...wrong } })).rejects.toMatchObject({
      status: 400,
    })
})

test('files that come later reach the execution that is at work, with the follow-up and before it', async () => {
  const { run_id } = await house.client.runs.create({ body: { prompt: 'Begin.', config } })
  const texts: string[] = []
  let path = ''
  const report = await workByHand(house, await worker.next(), folder, async ({ text, start, turn }) => {
    texts.push(text)
    if (turn === 1) {
      const [id] = await send(run_id, [{ filename: 'later.txt', content: 'late' }])
      path = join(start.env.BATON_ATTACHMENTS_DIR ?? '', id ?? '', 'later.txt')
      await house.client.followUps.create({ params: { run_id }, body: { message: 'And this.' } })
    } else expect(readFileSync(path, 'utf8')).toBe('late')
    return undefined
  })
  expect(report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
  expect(texts).toHaveLength(2)
  expect(texts[1]).toMatch(
    /And this\.[\s\S]*in the folder \$BATON_ATTACHMENTS_DIR:\n- [0-9a-f-]+\/later\.txt \(text\/plain\)/,
  )
})

test('the next execution has the files of before and those that came since, each told once', async () => {
  const attachments = [file('first.txt', 'one')]
  const { run_id } = await house.client.runs.create({ body: { prompt: 'Begin.', config, attachments } })
  await workByHand(house, await worker.next(), folder, async () => undefined)
  await send(run_id, [{ filename: 'second.txt', content: 'two' }])
  const follow = (key: string) =>
    house.client.followUps.create({
      params: { run_id },
      body: { message: 'Go on.' },
      headers: { 'idempotency-key': key },
    })
  await follow('once')
  // The same request again is no second message, though the files are told by now.
  await follow('once')
  const read: string[] = []
  await workByHand(house, await worker.next(), folder, async ({ text }) => {
    const paths = [...text.matchAll(/^- (\/\S+) \(/gm)].map(([, path]) => path ?? '')
    read.push(...paths.map((path) => readFileSync(path, 'utf8')))
    expect(text).toMatch(/Go on\.\n\nFiles for you/)
    return undefined
  })
  expect(read).toEqual(['one', 'two'])
  expect(await house.client.messages.list({ params: { run_id } })).toHaveLength(1)
  await house.client.followUps.create({ params: { run_id }, body: { message: 'Once more.' } })
  await workByHand(house, await worker.next(), folder, async ({ text }) => {
    // What stands above it is the conversation so far, which this harness does not keep.
    expect(text.split('Message from a person').at(-1)?.trim()).toBe('Subject: Once more.\n\nOnce more.')
    return undefined
  })
})

test('a follow-up may be files alone, or nothing at all for a run that has ended; a key counts once', async () => {
  const { run_id } = await house.client.runs.create({ body: { prompt: 'Begin.', config } })
  const params = { run_id }
  const headers = { 'idempotency-key': 'more' }
  // It is queued: its prompt grows, once.
  const piece = await worker.next()
  piece.reject()
  const queued = await house.client.runs.create({ body: { prompt: 'Begin.', config: { worker_host: 'nobody' } } })
  const more = (message: string) =>
    house.client.followUps.create({ params: { run_id: queued.run_id }, body: { message }, headers })
  await more('And that.')
  await more('And that.')
  await expect(more('Something else.')).rejects.toMatchObject({ status: 422 })
  const { prompt } = await house.client.runs.get({ params: { run_id: queued.run_id } })
  expect(prompt).toBe('Begin.\n\nAnd that.')
  await expect(house.client.followUps.create({ params, body: {} })).rejects.toMatchObject({ status: 400 })
  await workByHand(house, await worker.next(), folder, async () => undefined)
  const texts: string[] = []
  const next = async () =>
    workByHand(house, await worker.next(), folder, async ({ text }) => {
      texts.push(text)
      return undefined
    })
  await house.client.followUps.create({ params, body: {} })
  await next()
  await send(run_id, [{ filename: 'alone.txt', content: 'x' }])
  await house.client.followUps.create({ params, body: { message: ' ' } })
  await next()
  expect(texts).toEqual([expect.stringMatching(/Go on\./), expect.stringMatching(/Look at these\.[\s\S]*alone\.txt/)])
})

test('addresses of attachments serve them without a key, to whoever may see the run', async () => {
  const { run_id } = await house.client.runs.create({ body: { prompt: 'x', config: { worker_host: 'nobody' } } })
  const params = { run_id }
  const [id = ''] = await send(run_id, [{ filename: 'a b.txt', content: 'kept' }])
  const { attachments } = await house.client.attachments.download({ params, body: { attachment_ids: [id] } })
  const { attachment_id, download_url = '' } = attachments[0] ?? {}
  expect(attachment_id).toBe(id)
  const served = await fetch(download_url)
  expect(served.headers.get('content-disposition')).toBe("attachment; filename*=UTF-8''a%20b.txt")
  expect(await served.text()).toBe('kept')
  expect((await fetch(download_url.replace(/signature=../, 'signature=AA'))).status).toBe(403)
  const other = await house.addTeam('other')
  const refused = (client: House['client'], attachment_ids: string[]) =>
    expect(client.attachments.download({ params, body: { attachment_ids } })).rejects.toMatchObject({ status: 404 })
  await refused(other.client, [id])
  await refused(house.client, [id, crypto.randomUUID()])
  // Asked for, and never sent.
  const body = { files: [{ filename: 'x', mime_type: 'text/plain' }] }
  const prepared = await house.client.attachments.prepare({ params, body })
  await refused(house.client, [prepared.attachments[0]?.attachment_id ?? ''])
})

test('what is too much, too large or no file is refused by name, and makes no run', async () => {
  const before = (await house.client.runs.list({ query: { limit: 500 } })).runs.length
  const create = (attachments: ReturnType<typeof file>[]) =>
    house.client.runs.create({ body: { prompt: 'x', attachments } })
  await expect(create(Array(ATTACHMENTS_MAX + 1).fill(file('x', 'x')))).rejects.toMatchObject({ status: 400 })
  await expect(create([file('../x', 'x')])).rejects.toMatchObject({ message: expect.stringContaining('file name') })
  await expect(create([file('x', 'x', 'text')])).rejects.toMatchObject({ message: expect.stringContaining('MIME') })
  await expect(create([{ ...file('x', ''), data: '@@@' }])).rejects.toMatchObject({
    message: '`attachments[0].data` is not valid: it is not base64.',
    details: { errors: [{ pointer: '/attachments/0/data', detail: 'it is not base64' }] },
  })
  await expect(create([file('x', Buffer.alloc(ATTACHMENT_BYTES_MAX + 1))])).rejects.toMatchObject({
    status: 400,
    message: expect.stringContaining(`at most ${ATTACHMENT_BYTES_MAX}`),
  })
  expect((await house.client.runs.list({ query: { limit: 500 } })).runs.length).toBe(before)
  const sizes = [ATTACHMENT_BYTES_MAX, ...Array.from({ length: ATTACHMENTS_MAX - 1 }, (_, at) => at)]
  const five = sizes.map((size, at) => file(`${at}`, Buffer.alloc(size, at)))
  const headers = { 'idempotency-key': 'five' }
  const body = { prompt: 'x', config: { worker_host: 'nobody' }, attachments: five }
  const made = await house.client.runs.create({ body, headers })
  expect(await house.client.runs.create({ body, headers })).toEqual(made)
}, 60_000)

test('a run has so many files and no more', async () => {
  const { run_id } = await house.client.runs.create({ body: { prompt: 'x', config: { worker_host: 'nobody' } } })
  const files = Array.from({ length: 25 }, (_, at) => ({ filename: `${at}`, mime_type: 'text/plain' }))
  const prepare = () => house.client.attachments.prepare({ params: { run_id }, body: { files } })
  for (let sent = 0; sent < FILES_A_RUN_MAX; sent += files.length) await prepare()
  await expect(prepare()).rejects.toMatchObject({ details: { errors: [{ pointer: '/files' }] } })
})

test('the command line gives a run files, at most five, and says which file is not one', async () => {
  const home = await makeHome()
  try {
    const env = { BATON_SERVER: house.url, BATON_API_KEY: house.api_key }
    writeFileSync(join(home.folder, 'notes.md'), '# Notes')
    writeFileSync(join(home.folder, 'bytes.bin'), Buffer.from([0, 1, 2]))
    const ask = (...args: string[]) =>
      home.run(['agent', 'run-cloud', '-p', 'Read.', '--host', 'here', ...args, '--json'], { env, cwd: home.folder })
    const made = await ask('--attach', 'notes.md', '--attach', 'bytes.bin', '--no-snapshot')
    expect(made.code, made.stderr).toBe(0)
    const here = await house.worker({ worker_host: 'here', capacity: 100 })
    const { run_id } = JSON.parse(made.stdout) as { run_id: string }
    let piece = await here.next()
    while (piece.run_id !== run_id) piece = await here.next()
    piece.claim()
    expect(await piece.start()).toMatchObject({ attachments: 2, snapshot_disabled: true })
    const { execution_id } = piece
    const { attachments } = await piece.runner.attachments.take({ params: { execution_id } })
    expect(attachments).toMatchObject([
      { filename: 'bytes.bin', mime_type: 'application/octet-stream', size_bytes: 3 },
      { filename: 'notes.md', mime_type: 'text/markdown', size_bytes: 7 },
    ])
    const six = Array.from({ length: 6 }, () => ['--attach', 'notes.md']).flat()
    expect(await ask(...six)).toMatchObject({ code: 2, stderr: expect.stringMatching(/at most 5 files, not 6/) })
    expect((await ask('--attach', 'gone.txt')).stderr).toMatch(/gone\.txt/)
  } finally {
    await home.remove()
  }
}, 60_000)
