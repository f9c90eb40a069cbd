/** Blobs in S3: what a folder does, a bucket does; what is refused, what happens while it is away, and moving there. */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { z } from 'zod'
import { exportAll, importAll } from '../src/db/transfer.ts'
import { type BlobStore, blobIdOf, folderBlobs, placeOf } from '../src/engine/blobs.ts'
import { connect } from '../src/sdk/client.ts'
import { type Home, makeHome, poll } from './cli/baton.ts'
import { freshDatabase } from './house/database.ts'
import { checksumOf, sendFile } from './house/files.ts'
import { type House, startHouse } from './house/house.ts'
import { BUCKET, startS3 } from './house/s3.ts'

let s3: Awaited<ReturnType<typeof startS3>>
let folder: string
let house: House
let home: Home
beforeAll(async () => {
  s3 = await startS3()
  folder = mkdtempSync(join(tmpdir(), 'baton-blobs-s3-'))
  house = await startHouse({ blobs: s3.blobs() })
  home = await makeHome()
})
afterEach(() => s3.heal())
afterAll(async () => {
  await house?.close()
  await s3?.close()
  await home?.remove()
  rmSync(folder, { recursive: true, force: true })
})

async function* pieces(content: Uint8Array, size = 64 * 1024): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < content.length; at += size) yield content.subarray(at, at + size)
}
const whole = async (stream: ReadableStream<Uint8Array> | null): Promise<Buffer | null> =>
  stream === null ? null : Buffer.from(await new Response(stream).arrayBuffer())

const STORES: [string, () => BlobStore][] = [
  ['a folder', () => folderBlobs(join(folder, 'same'))],
  ['a bucket', () => s3.blobs()],
  ['a bucket without a prefix', () => s3.blobs({ prefix: '' })],
]

test.each(STORES)('%s keeps, gives back and removes bytes, whole and in ranges', async (_, storeOf) => {
  const store = storeOf()
  const [small, large, empty] = [randomBytes(100), randomBytes(6 * 1024 * 1024 + 7), Buffer.alloc(0)]
  for (const content of [small, empty]) expect(await store.write(content)).toBe(blobIdOf(content))
  const draft = await store.draft(pieces(large))
  expect([draft.blob_id, draft.size_bytes]).toEqual([blobIdOf(large), large.length])
  expect(await store.read(draft.blob_id)).toBeNull()
  await draft.keep()
  await draft.drop()
  for (const content of [small, large, empty]) {
    const blob_id = blobIdOf(content)
    expect(await store.size(blob_id)).toBe(content.length)
    expect(content.equals((await store.read(blob_id)) ?? Buffer.from('nothing'))).toBe(true)
    expect(content.equals((await whole(await store.open(blob_id))) ?? Buffer.from('nothing'))).toBe(true)
  }
  const range = { first: 64, last: 5_000_000 }
  const part = await whole(await store.open(draft.blob_id, range))
  expect(part?.equals(large.subarray(64, 5_000_001))).toBe(true)
  await store.remove(draft.blob_id)
  await store.remove(draft.blob_id)
  for (const blob_id of [draft.blob_id, 'f'.repeat(64), '../../etc/passwd'])
    expect([await store.read(blob_id), await store.open(blob_id), await store.size(blob_id)]).toEqual([
      null,
      null,
      null,
    ])
  const dropped = await store.draft(pieces(randomBytes(10)))
  await dropped.drop()
  expect(await store.size(dropped.blob_id)).toBeNull()
})

test('a wrong key, a wrong secret or a bucket that is not there is refused, by name', async () => {
  const bytes = randomBytes(32)
  const refused = (code: string) => ({ code: 'resource_unavailable', message: expect.stringContaining(`(${code})`) })
  const wrong = s3.blobs({ secret_access_key: 'another' })
  await expect(wrong.write(bytes)).rejects.toMatchObject(refused('SignatureDoesNotMatch'))
  const stranger = s3.blobs({ access_key_id: 'STRANGER' })
  // To whom it does not know the store says no more than that.
  await expect(stranger.read(blobIdOf(bytes))).rejects.toMatchObject(refused('SignatureDoesNotMatch'))
  const nowhere = s3.blobs({ bucket: 'not-there' })
  await expect(nowhere.read(blobIdOf(bytes))).rejects.toMatchObject(refused('NoSuchBucket'))
  await expect(nowhere.write(bytes)).rejects.toMatchObject(refused('NoSuchBucket'))
  expect(await s3.blobs().size(blobIdOf(bytes))).toBeNull()
})

test('an answer that may go better later is asked for again, one that says no is not', async () => {
  const bytes = randomBytes(32)
  s3.fail(503, 'SlowDown', 2)
  expect(await s3.blobs().write(bytes)).toBe(blobIdOf(bytes))
  s3.fail(403, 'AccessDenied')
  const before = s3.seen.length
  await expect(s3.blobs().write(bytes)).rejects.toMatchObject({ message: expect.stringContaining('AccessDenied') })
  expect(s3.seen.length - before).toBe(1)
  s3.fail(507, 'XMinioStorageFull')
  await expect(s3.blobs().write(bytes)).rejects.toMatchObject({ status: 507 })
})

test('while S3 is away or refuses, nothing is acknowledged, and all of it works once it is back', async () => {
  const worker = await house.worker({})
  await house.client.runs.create({ body: { prompt: 'write much' } })
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  const long = { kind: 'text' as const, text: randomBytes(20_000).toString('hex') }
  const away = { code: 'resource_unavailable', status: 503, retryable: true }
  await s3.leave()
  try {
    await expect(piece.append(long)).rejects.toMatchObject(away)
    await expect(sendFile(house.client, { run_id: piece.run_id, filepath: 'a.txt' }, 'sent')).rejects.toThrow('503')
  } finally {
    await s3.comeBack()
  }
  s3.fail(403, 'AccessDenied')
  await expect(sendFile(house.client, { run_id: piece.run_id, filepath: 'a.txt' }, 'sent')).rejects.toThrow('503')
  s3.heal()
  const entries = [{ number: 1, at: new Date().toISOString(), body: long }]
  const { execution_id } = piece
  expect(await piece.runner.executions.append({ params: { execution_id }, body: { entries } })).toMatchObject({
    highest: 1,
  })
  const { artifact_uid } = await sendFile(house.client, { run_id: piece.run_id, filepath: 'a.txt' }, 'sent')
  const { data } = await house.client.artifacts.get({ params: { artifact_uid } })
  const url = 'download_url' in data ? data.download_url : ''
  expect(await (await fetch(url)).text()).toBe('sent')
  const part = await fetch(url, { headers: { range: 'bytes=1-2' } })
  expect([part.status, await part.text()]).toEqual([206, 'en'])
  await s3.leave()
  try {
    expect((await fetch(url)).status).toBe(503)
  } finally {
    await s3.comeBack()
  }
  expect((await fetch(url)).status).toBe(200)
})

test('all data moves from a folder to S3 and back, by export and import; a plain copy of the files does, too', async () => {
  const [one, two] = [randomBytes(100), randomBytes(3 * 1024 * 1024)]
  const from = await freshDatabase()
  const [to, back] = [await freshDatabase({ migrated: false }), await freshDatabase({ migrated: false })]
  const blobs = folderBlobs(join(folder, 'from'))
  for (const content of [one, two]) {
    const blob_id = await blobs.write(content)
    await from.pool.query('insert into blobs values ($1, $2, now())', [blob_id, content.length])
  }
  try {
    await exportAll(from, blobs, join(folder, 'there'))
    const bucket = s3.blobs({ prefix: 'moved' })
    expect(await importAll(to, bucket, join(folder, 'there'))).toMatchObject({ blobs: 2 })
    for (const content of [one, two]) expect(content.equals((await bucket.read(blobIdOf(content))) ?? one)).toBe(true)
    await exportAll(to, bucket, join(folder, 'back'))
    const again = folderBlobs(join(folder, 'again'))
    expect(await importAll(back, again, join(folder, 'back'))).toMatchObject({ blobs: 2 })
    for (const content of [one, two]) {
      const place = placeOf(blobIdOf(content))
      expect(readFileSync(join(folder, 'again', place)).equals(content)).toBe(true)
      expect(s3.seen).toContain(`PUT /${BUCKET}/moved/${place}`)
    }
  } finally {
    for (const database of [from, to, back]) await database.close()
  }
})

test('a built server keeps what comes, also as a form, in the bucket that its environment names', async () => {
  const [ready_file, data_dir] = [join(home.folder, 'ready.json'), join(home.folder, 'data')]
  const args = ['up', '--port', '0', '--no-worker', '--data-dir', data_dir, '--ready-file', ready_file]
  const started = home.start(args, { env: s3.env })
  try {
    const { url, api_key } = await poll(async () => {
      if (started.child.exitCode !== null) throw new Error((await started.ended).stderr)
      return z.object({ url: z.string(), api_key: z.string() }).parse(JSON.parse(readFileSync(ready_file, 'utf8')))
    })
    const client = connect({ server: url, token: api_key })
    const { run_id } = await client.runs.create({ body: { prompt: 'x' } })
    const { upload_id, upload_target } = await client.artifacts.upload({ body: { run_id, filepath: 'form.txt' } })
    const form = new FormData()
    form.append('crc32c', checksumOf('in a form'))
    form.append('file', new Blob(['in a form']))
    expect((await fetch(upload_target.url, { method: 'POST', body: form })).status).toBe(200)
    const { artifact_uid } = await client.artifacts.confirm({ params: { upload_id }, body: {} })
    const { data } = await client.artifacts.get({ params: { artifact_uid } })
    expect(await (await fetch('download_url' in data ? data.download_url : '')).text()).toBe('in a form')
    const place = placeOf(blobIdOf(Buffer.from('in a form')))
    expect(s3.seen).toContain(`PUT /${BUCKET}/some/where/${place}`)
    expect(existsSync(join(data_dir, 'blobs'))).toBe(false)
  } finally {
    started.child.kill('SIGTERM')
    await started.ended
  }
}, 60_000)

test('doctor tries the store, and the settings are explained without their secrets', async () => {
  const well = JSON.parse((await home.run(['doctor', '--json'], { env: s3.env })).stdout) as { check: string }[]
  expect(well.find(({ check }) => check === 'blobs')).toMatchObject({ verdict: 'ok' })
  const env = { ...s3.env, AWS_SECRET_ACCESS_KEY: 'another' }
  const ill = await home.run(['doctor', '--json'], { env })
  expect(ill.code).toBe(1)
  expect((JSON.parse(ill.stdout) as { check: string }[]).find(({ check }) => check === 'blobs')).toMatchObject({
    verdict: 'fail',
    advice: expect.stringContaining('SignatureDoesNotMatch'),
  })
  const explained = await home.run(['config', 'explain', '--json'], { env: s3.env })
  const rows = JSON.parse(explained.stdout) as { name: string; value: string; from: string }[]
  expect(rows).toContainEqual({ name: 'blobs', value: `s3://${BUCKET}/some/where`, from: 'BATON_BLOBS' })
  expect(rows).toContainEqual({ name: 's3_region', value: 'eu-central-1', from: 'AWS_REGION' })
  for (const secret of [s3.env.AWS_SECRET_ACCESS_KEY, s3.env.AWS_ACCESS_KEY_ID])
    expect(explained.stdout + explained.stderr + ill.stdout).not.toContain(secret)
  const wrong = await home.run(['config', 'explain'], { env: { BATON_BLOBS: 's3://Not A Bucket' } })
  expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining('names no bucket') })
})
