/** Uploads: files that come by an address of their own, what is refused of them, and what is left when something dies. */
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Received, type UploadTarget } from '../src/contract/index.ts'
import { manualClock } from '../src/db/clock.ts'
import { blobIdOf, placeOf } from '../src/engine/blobs.ts'
import type { NewUpload } from '../src/engine/uploads.ts'
import { connect } from '../src/sdk/client.ts'
import { type FreshDatabase, freshDatabase } from './house/database.ts'
import { checksumOf, send } from './house/files.ts'
import { type House, startHouse } from './house/house.ts'
import { freePort } from './house/port.ts'
import { startServerProcess, until } from './house/processes.ts'

const DAY = 24 * 60 * 60_000
const clock = manualClock(new Date())

let blobs_dir: string
let database: FreshDatabase
let house: House
let run_id: string
beforeAll(async () => {
  blobs_dir = mkdtempSync(join(tmpdir(), 'baton-uploads-'))
  database = await freshDatabase({ pool_max: 20 })
  house = await startHouse({ clock, blobs_dir, database })
  run_id = (await house.client.runs.create({ body: { prompt: 'make something' } })).run_id
})
afterAll(async () => {
  await house?.close()
  await database?.close()
  rmSync(blobs_dir, { recursive: true, force: true })
})

const upload = (filepath = 'a.bin') => house.client.artifacts.upload({ body: { run_id, filepath } })
const confirm = (upload_id: string, checksum?: string) =>
  house.client.artifacts.confirm({ params: { upload_id }, body: checksum === undefined ? {} : { checksum } })
const isHeld = (content: Uint8Array) => existsSync(join(blobs_dir, placeOf(blobIdOf(content))))
const drafts = () => (existsSync(join(blobs_dir, 'drafts')) ? readdirSync(join(blobs_dir, 'drafts')) : [])

/** As another room of the engine prepares one. */
const prepare = (more: Partial<NewUpload> = {}) =>
  house.server.engine.uploads.prepare(database.kysely, {
    team_id: house.owner.team_id,
    run_id,
    purpose: 'test',
    name: 'a.bin',
    mime_type: 'application/octet-stream',
    size_max: 1_000,
    root: house.url,
    ...more,
  })

const refusal = async (response: Response | Promise<Response>) => {
  const { status, headers, ...rest } = await response
  const { error } = (await (await response).json()) as { error: string }
  return { ...rest, status, retry: headers.get('x-should-retry'), error }
}

/** Half of what it says that it sends; what is left of it is the caller's to end. */
async function sendHalf({ url, method }: UploadTarget, content: Buffer) {
  const asked = request(url, { method, headers: { 'content-length': content.length } })
  asked.on('error', () => undefined)
  asked.write(content.subarray(0, content.length / 2))
  await until('some of it has come', () => drafts().length > 0)
  return asked
}

test('the sum of a file is CRC32C, as clients write it', () => {
  // RFC 3720, appendix B.4, and the check value of the algorithm.
  expect(checksumOf(new Uint8Array(32))).toBe(Buffer.from('8a9136aa', 'hex').toString('base64'))
  expect(checksumOf('123456789')).toBe(Buffer.from('e3069283', 'hex').toString('base64'))
})

test('a large file goes to its address without a key, and is kept once it is confirmed', async () => {
  const content = randomBytes(5 * 1024 * 1024 + 1)
  const { upload_id, upload_target } = await upload('out/large.bin')
  expect(upload_target).toMatchObject({
    url: expect.stringContaining(`${house.url}/uploads/${upload_id}?`),
    method: 'PUT',
    headers: { 'content-type': 'application/octet-stream' },
    fields: null,
  })
  const received = { size_bytes: content.length, sha256: blobIdOf(content), crc32c: checksumOf(content) }
  for (const _ of ['first', 'again'])
    expect(Received.parse(await (await send(upload_target, content)).json())).toEqual(received)
  const kept = await confirm(upload_id, received.crc32c)
  expect(kept).toEqual({
    artifact_uid: expect.any(String),
    filepath: 'out/large.bin',
    description: null,
    mime_type: 'application/octet-stream',
    size_bytes: content.length,
  })
  expect(await confirm(upload_id)).toEqual(kept)
  const { data } = await house.client.artifacts.get({ params: { artifact_uid: kept.artifact_uid } })
  const bytes = await (await fetch('download_url' in data ? data.download_url : '')).arrayBuffer()
  expect(createHash('sha256').update(Buffer.from(bytes)).digest('hex')).toBe(received.sha256)
  expect(drafts()).toEqual([])
})

test('a form of ordered fields goes to the same address, with its own checksum', async () => {
  const { upload_id, target } = await prepare({ as_form: true })
  expect(target).toMatchObject({ method: 'POST', headers: null })
  expect(target.fields?.map(({ name, value }) => [name, value.kind])).toEqual([
    ['content-type', 'static'],
    ['crc32c', 'content_crc32c'],
    ['file', 'content_data'],
  ])
  expect((await send(target, 'in a form')).status).toBe(200)
  const which = { upload_id, team_id: house.owner.team_id, purpose: 'test' }
  const confirmed = await house.server.engine.uploads.confirm(database.kysely, which)
  expect(confirmed).toMatchObject({ size_bytes: 9, blob_id: blobIdOf(Buffer.from('in a form')) })
})

test('a form that says another checksum, has no file, or is none at all changes nothing', async () => {
  const { upload_id, target } = await prepare({ as_form: true })
  const form = (fields: [string, string | Blob][]) => {
    const data = new FormData()
    for (const [name, value] of fields) data.append(name, value)
    return fetch(target.url, { method: 'POST', body: data })
  }
  const file: [string, Blob] = ['file', new Blob(['content'])]
  expect(await refusal(form([['crc32c', checksumOf('other')], file]))).toMatchObject({ status: 400, error: /CRC32C/ })
  expect(await refusal(form([['crc32c', 'AAAAAA==']]))).toMatchObject({ status: 400, error: /no field "file"/ })
  expect((await fetch(target.url, { method: 'POST', body: 'content' })).status).toBe(415)
  const headers = { 'content-type': 'multipart/form-data; boundary=x' }
  expect((await fetch(target.url, { method: 'POST', headers, body: '--x\r\nnonsense' })).status).toBe(400)
  const which = { upload_id, team_id: house.owner.team_id, purpose: 'test' }
  await expect(house.server.engine.uploads.confirm(database.kysely, which)).rejects.toThrow(/not come yet/)
  expect(drafts()).toEqual([])
})

test('what is larger than it may be, or than it was said to be, is refused before it is kept', async () => {
  const { target } = await prepare()
  const tooLarge = Buffer.alloc(1_001, 1)
  expect(await refusal(send(target, tooLarge))).toMatchObject({ status: 413, error: /larger than the 1000 bytes/ })
  const stream = new Blob([tooLarge]).stream()
  const unsaid = await fetch(target.url, { method: 'PUT', body: stream, duplex: 'half' } as RequestInit)
  expect(unsaid.status).toBe(413)
  const form = await prepare({ as_form: true })
  expect((await send(form.target, tooLarge)).status).toBe(413)
  expect((await send(target, tooLarge.subarray(1))).status).toBe(200)
  const said = await prepare({ size_bytes: 4 })
  expect(await refusal(send(said.target, 'three'))).toMatchObject({ status: 400, error: /4 bytes, and 5 came/ })
  expect((await send(said.target, 'four')).status).toBe(200)
  await expect(prepare({ size_bytes: 1_001 })).rejects.toMatchObject({ code: 'invalid_request' })
  expect([isHeld(tooLarge), drafts()]).toEqual([false, []])
})

test('an address that was changed, is of another upload, or has expired takes nothing', async () => {
  const [one, two] = [await prepare(), await prepare()]
  const { url } = one.target
  const later = url.replace(/expires=(\d+)/, (_, expires: string) => `expires=${Number(expires) + 60}`)
  const changed = [later, url.replace(one.upload_id, two.upload_id), url.replace(/signature=./, 'signature=')]
  for (const other of [...changed, url.replace(/\?.*/, '')])
    expect((await fetch(other, { method: 'PUT', body: 'x' })).status, other).toBe(403)
  clock.advance(61 * 60_000)
  expect(await refusal(send(one.target, 'x'))).toMatchObject({ status: 403, error: /expired/ })
})

test('a sender that goes away in the middle has sent nothing, and may begin anew', async () => {
  const content = randomBytes(256 * 1024)
  const { upload_id, upload_target } = await upload()
  const half = await sendHalf(upload_target, content)
  half.destroy()
  await until('its draft is gone', () => drafts().length === 0)
  await expect(confirm(upload_id)).rejects.toMatchObject({ code: 'invalid_request', message: /not come yet/ })
  expect((await send(upload_target, content)).status).toBe(200)
  expect(await confirm(upload_id)).toMatchObject({ size_bytes: content.length })
})

test('a wrong checksum is refused, and the file may be sent again; once confirmed, no other takes its place', async () => {
  const { upload_id, upload_target } = await upload()
  await send(upload_target, 'damaged')
  await expect(confirm(upload_id, checksumOf('right'))).rejects.toMatchObject({ code: 'invalid_request' })
  await expect(confirm(upload_id, 'right')).rejects.toMatchObject({ code: 'invalid_request' })
  await send(upload_target, 'right')
  await confirm(upload_id, checksumOf('right'))
  expect((await send(upload_target, 'right')).status).toBe(200)
  expect(await refusal(send(upload_target, 'another'))).toMatchObject({ status: 409, retry: 'false' })
  expect(await confirm(upload_id)).toMatchObject({ size_bytes: 5 })
})

test('what the store has lost is not confirmed, and may be sent again', async () => {
  const { upload_id, upload_target } = await upload()
  const content = randomBytes(100)
  await send(upload_target, content)
  rmSync(join(blobs_dir, placeOf(blobIdOf(content))))
  await expect(confirm(upload_id)).rejects.toMatchObject({ code: 'invalid_request', message: /not in the store/ })
  await send(upload_target, content)
  expect(await confirm(upload_id)).toMatchObject({ size_bytes: 100 })
})

test('bytes that come just as equal ones are removed are there', async () => {
  const content = randomBytes(10_000)
  const { uploads } = house.server.engine
  for (let round = 0; round < 10; round += 1) {
    const [old, fresh] = [await upload(), await upload()]
    await send(old.upload_target, content)
    await database.pool.query('update uploads set created_at = $1 where upload_id = $2', [
      new Date(clock.now().getTime() - 2 * DAY),
      old.upload_id,
    ])
    await database.pool.query('update blobs set created_at = $1', [new Date(clock.now().getTime() - 2 * DAY)])
    await Promise.all([uploads.sweep(), send(fresh.upload_target, content)])
    expect(await confirm(fresh.upload_id)).toMatchObject({ size_bytes: content.length })
    expect(isHeld(content)).toBe(true)
    await database.pool.query('delete from artifacts where blob_id = $1', [blobIdOf(content)])
    await uploads.discard([fresh.upload_id])
  }
})

test('sent by several at once, one file is what came', async () => {
  const { upload_id, upload_target } = await upload()
  const contents = Array.from({ length: 8 }, (_, at) => `file ${at}`.repeat(1_000))
  const answers = await Promise.all(contents.map((content) => send(upload_target, content)))
  expect(answers.map(({ status }) => status)).toEqual(contents.map(() => 200))
  const kept = await confirm(upload_id)
  const { data } = await house.client.artifacts.get({ params: { artifact_uid: kept.artifact_uid } })
  expect(contents).toContain(await (await fetch('download_url' in data ? data.download_url : '')).text())
})

test('what nobody confirms is forgotten after a day, with its bytes, unless something else has the same', async () => {
  const [lost, shared] = [randomBytes(64), randomBytes(64)]
  const forgotten = await upload('lost.bin')
  await send(forgotten.upload_target, lost)
  const kept = await upload('kept.bin')
  await send(kept.upload_target, shared)
  await confirm(kept.upload_id)
  const same = await upload('same.bin')
  await send(same.upload_target, shared)
  clock.advance(DAY - 60_000)
  await house.server.engine.uploads.sweep()
  expect([isHeld(lost), isHeld(shared)]).toEqual([true, true])
  clock.advance(2 * 60_000)
  await house.server.engine.uploads.sweep()
  expect([isHeld(lost), isHeld(shared)]).toEqual([false, true])
  await expect(confirm(forgotten.upload_id)).rejects.toMatchObject({ code: 'resource_not_found' })
  const again = await upload('again.bin')
  await send(again.upload_target, lost)
  await confirm(again.upload_id)
  clock.advance(2 * DAY)
  await house.server.engine.uploads.sweep()
  expect(isHeld(lost)).toBe(true)
})

test('a server that is killed loses nothing that it took, and keeps nothing of what it did not', async () => {
  const own = await freshDatabase()
  const there = { port: await freePort(), connection: own.connection, blobs_dir }
  let server = await startServerProcess(there)
  const client = connect({ server: server.url, token: server.api_key ?? '', retries: 5 })
  const { run_id } = await client.runs.create({ body: { prompt: 'make something' } })
  const [whole, half] = [randomBytes(256 * 1024), randomBytes(256 * 1024)]
  const [one, two] = [
    await client.artifacts.upload({ body: { run_id, filepath: 'whole.bin' } }),
    await client.artifacts.upload({ body: { run_id, filepath: 'half.bin' } }),
  ]
  try {
    expect((await send(one.upload_target, whole)).status).toBe(200)
    const sending = await sendHalf(two.upload_target, half)
    const cut = new Promise((resolve) => sending.once('close', resolve))
    await server.kill()
    await cut
    server = await startServerProcess(there)
    const confirmBy = (upload_id: string, content: Buffer) =>
      client.artifacts.confirm({ params: { upload_id }, body: { checksum: checksumOf(content) } })
    expect(await confirmBy(one.upload_id, whole)).toMatchObject({ size_bytes: whole.length })
    await expect(confirmBy(two.upload_id, half)).rejects.toMatchObject({ code: 'invalid_request' })
    expect(isHeld(half)).toBe(false)
    expect((await send(two.upload_target, half)).status).toBe(200)
    expect(await confirmBy(two.upload_id, half)).toMatchObject({ size_bytes: half.length })
  } finally {
    await server.kill()
    await own.close()
  }
})

test('the files of a team have no more bytes together than its limit, whether their size is said or not', async () => {
  const mate = await house.addTeam('full')
  const { run_id: own } = await mate.client.runs.create({ body: { prompt: 'make something' } })
  const limit = (max_file_bytes: number | null) => mate.client.team.changeLimits({ body: { max_file_bytes } })
  expect((await mate.client.team.limits()).max_file_bytes).toBeNull()
  const ask = (size_bytes?: number) =>
    mate.client.artifacts.upload({
      body: { run_id: own, filepath: 'a.bin', ...(size_bytes === undefined ? {} : { size_bytes }) },
    })
  expect((await limit(100)).max_file_bytes).toBe(100)
  const [said, unsaid] = [await ask(60), await ask()]
  const full = { code: 'budget_exceeded', message: expect.stringContaining('60 of the 100 bytes'), retryable: false }
  await expect(ask(41)).rejects.toMatchObject(full)
  expect((await send(said.upload_target, randomBytes(60))).status).toBe(200)
  const content = randomBytes(41)
  const before = drafts()
  expect(await refusal(send(unsaid.upload_target, content))).toMatchObject({ status: 403 })
  expect([isHeld(content), drafts()]).toEqual([false, before])
  // Another in the place of the one that came counts once.
  expect((await send(unsaid.upload_target, randomBytes(40))).status).toBe(200)
  expect((await send(unsaid.upload_target, randomBytes(39))).status).toBe(200)
  await limit(101)
  expect((await send(unsaid.upload_target, content)).status).toBe(200)
  await expect(ask()).rejects.toMatchObject({ code: 'budget_exceeded' })
  await limit(null)
  await ask(1_000_000)
  expect((await upload()).upload_id).toBeDefined()
})
