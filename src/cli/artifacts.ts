/** Files of this machine, as they are kept with a run, and as they come back. */
import { createHash, randomUUID } from 'node:crypto'
import { createReadStream, openAsBlob } from 'node:fs'
import { access, link, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, relative, resolve, sep } from 'node:path'
import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { crc32cSum } from '../contract/crc32c.ts'
import { ARTIFACT_BYTES_MAX, Problem, parseProblem, UPLOAD_BYTES_MAX, type UploadTarget } from '../contract/index.ts'
import type { Context } from './context.ts'
import { CommandFailure } from './exits.ts'
import { bytes } from './text.ts'

const TRIES = 3
const FIRST_PAUSE_MS = 500

/** What is kept of a file that is reported with its content: its path as others may see it, and what is in it. */
export async function fileToKeep(context: Context, file: string) {
  const { path, filepath } = await findFile(context, file, ARTIFACT_BYTES_MAX)
  const content = await readFile(path)
  const text = textOf(content)
  return {
    filepath,
    ...(text === null
      ? { content: content.toString('base64'), encoding: 'base64' as const }
      : { content: text, encoding: 'utf-8' as const }),
  }
}

/** A file that is to be sent, with the sum of what is in it now. */
export async function fileToSend(context: Context, file: string) {
  const { path, filepath, size_bytes } = await findFile(context, file, UPLOAD_BYTES_MAX)
  const sum = crc32cSum()
  for await (const chunk of createReadStream(path, { signal: context.signal })) sum.add(chunk)
  return { path, filepath, size_bytes, checksum: sum.text() }
}

export async function findFile(context: Context, file: string, size_max: number) {
  const path = resolve(context.cwd, file)
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    throw new CommandFailure('usage', `${file} cannot be read (${error.code ?? error.message}).`)
  })
  if (!found.isFile()) throw new CommandFailure('usage', `${file} is not a file.`)
  if (found.size > size_max)
    throw new CommandFailure('usage', `${file} has ${bytes(found.size)}; at most ${bytes(size_max)} are kept so.`)
  return { path, filepath: shownPath(context.cwd, file), size_bytes: found.size }
}

/** Sends the file where its target says, as it says; again where the server could not take it just then. */
export async function sendFile(
  context: Context,
  { url, method, headers, fields }: UploadTarget,
  { path, checksum }: { path: string; checksum: string },
): Promise<void> {
  const content = await openAsBlob(path)
  const form = new FormData()
  for (const { name, value } of fields ?? []) {
    if (value.kind === 'content_data') form.append(name, content)
    else form.append(name, value.kind === 'static' ? value.value : checksum)
  }
  const body = fields === null ? content : form
  const answer = await asked(context, url, { method, ...(fields === null && { headers: headers ?? {} }), body })
  if (answer.ok) return
  throw parseProblem(answer.status, Problem.safeParse(await answer.json().catch(() => null)).data)
}

export type Source = { url: string; sha256: string | undefined }

/**
 * Writes what an address serves to a new file beside `path`, and puts it there when it is whole and right: what was
 * there before is never half replaced. A connection that breaks is taken up where it broke.
 */
export async function fetchFile(
  context: Context,
  { url, sha256 }: Source,
  path: string,
  force: boolean,
): Promise<number> {
  if (!force) await refuseToReplace(path)
  const draft = join(dirname(path), `.${basename(path).slice(0, 200)}.${randomUUID()}`)
  const file = await open(draft, 'wx').catch((error: NodeJS.ErrnoException) => {
    throw new CommandFailure('failed', `${path} cannot be written (${error.code ?? error.message}).`)
  })
  try {
    const hash = createHash('sha256')
    let size_bytes = 0
    for await (const chunk of chunksOf(context, url)) {
      hash.update(chunk)
      size_bytes += chunk.length
      await file.writeFile(chunk)
    }
    await file.sync()
    checkSum(hash.digest('hex'), sha256)
    // A link fails where something has come there meanwhile; a rename would replace it.
    if (force) await rename(draft, path)
    else
      await link(draft, path).catch((error: NodeJS.ErrnoException) => {
        throw error.code === 'EEXIST' ? replaces(path) : error
      })
    return size_bytes
  } finally {
    await file.close()
    await rm(draft, { force: true })
  }
}

/** All of it, for a pipe: nothing is written before it is known to be right. */
export async function fetchBytes(context: Context, { url, sha256 }: Source): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of chunksOf(context, url)) chunks.push(chunk)
  const content = Buffer.concat(chunks)
  checkSum(createHash('sha256').update(content).digest('hex'), sha256)
  return content
}

export async function refuseToReplace(path: string): Promise<void> {
  const is_there = await access(path).then(
    () => true,
    () => false,
  )
  if (is_there) throw replaces(path)
}

const replaces = (path: string): CommandFailure =>
  new CommandFailure('conflict', `${path} is there already.`, 'Choose another place with --out, or use --force.')

function checkSum(is: string, said: string | undefined): void {
  if (said !== undefined && is !== said)
    throw new CommandFailure('failed', 'What came is not the file that was kept: its SHA-256 differs. Try again.')
}

async function* chunksOf(context: Context, url: string): AsyncGenerator<Uint8Array> {
  let etag: string | null = null
  let came = 0
  for (let tries = 1; ; tries += 1) {
    const headers: Record<string, string> =
      came === 0 || etag === null ? {} : { range: `bytes=${came}-`, 'if-range': etag }
    const answer = await asked(context, url, { headers })
    if (!answer.ok) throw parseProblem(answer.status, await answer.json().catch(() => null))
    if (came > 0 && answer.status !== 206) throw new CommandFailure('failed', 'The file changed on its way. Try again.')
    etag = answer.headers.get('etag')
    const from = came
    try {
      for await (const chunk of Readable.fromWeb(answer.body as never)) {
        came += chunk.length
        yield chunk
      }
      return
    } catch (error) {
      if (context.signal.aborted || etag === null || (came === from && tries >= TRIES)) throw error
      if (came > from) tries = 1
      await delay(FIRST_PAUSE_MS, undefined, { signal: context.signal })
    }
  }
}

/** Asked again where nobody answers, or the answer says that it may go better later. */
async function asked({ signal }: Context, url: string, init: RequestInit): Promise<Response> {
  for (let tries = 1; ; tries += 1) {
    const answer = await fetch(url, { ...init, signal }).catch((cause: unknown) => {
      if (signal.aborted) throw cause
      if (tries < TRIES) return null
      throw new CommandFailure('unreachable', `${new URL(url).origin} does not answer.`)
    })
    if (answer && (tries >= TRIES || (answer.status < 500 && answer.status !== 429))) return answer
    await answer?.body?.cancel()
    await delay(FIRST_PAUSE_MS * 2 ** (tries - 1), undefined, { signal })
  }
}

/** Null: it is no text. */
function textOf(content: Buffer): string | null {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content)
    return text.includes('\0') ? null : text
  } catch {
    return null
  }
}

/** Relative where it lies in this folder, else its name alone. */
function shownPath(cwd: string, file: string): string {
  const path = relative(cwd, resolve(cwd, file))
  return path.startsWith('..') || path === resolve(cwd, file) ? basename(file) : path.split(sep).join('/')
}
