/**
 * The session of a harness as files below its home: read and packed to be kept, put back to be gone on with.
 *
 * What is read was written by an agent, and what is put back may have been: nothing leads out of the profile's session
 * folders, in neither direction. Only plain files count, with one name, on a way without symlinks. A read is of one
 * moment: it is repeated until no file changed meanwhile, for a database is worth nothing in two halves.
 */
import { constants } from 'node:fs'
import { lstat, mkdir, open, readdir, rm } from 'node:fs/promises'
import { dirname, join, normalize } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { promisify } from 'node:util'
import { gunzip, gzip } from 'node:zlib'
import { type KeptSession, SESSION_BYTES_MAX, SESSION_FILES_MAX, SESSION_PACKED_BYTES_MAX } from '../contract/index.ts'
import { megabytes } from './failures.ts'

/** How often a session that is being written to is read anew, and after which pause, in milliseconds. */
const READS_MAX = 8
const READ_AGAIN_MS = 25
/** Deep enough for every known harness. */
const DEPTH_MAX = 8
/** Fast: the end of a run waits for it. */
const LEVEL = 3

const deflate = promisify(gzip)
const inflate = promisify(gunzip)

/** A file's identity and version, as cheap to ask as a look at the folder. */
export type Stamps = ReadonlyMap<string, string>
export type Packed = { stamps: Stamps; packed: Map<string, Buffer> }
export type PackResult =
  | ({ found: 'session' } & Packed)
  /** Nothing is different from what was packed before, or there is nothing. */
  | { found: 'same' }
  | { found: 'too_large'; why: string }
  /** It was written to all the time. */
  | { found: 'unsettled' }

/** Reads what differs from `before`; `mask` covers what must not be kept. */
export async function packSession(
  home: string,
  folders: readonly string[],
  before: Stamps,
  mask: (bytes: Uint8Array) => Uint8Array = (bytes) => bytes,
): Promise<PackResult> {
  for (let reads = 0; reads < READS_MAX; reads++) {
    if (reads > 0) await wait(READ_AGAIN_MS)
    const found = await findFiles(home, folders)
    if (found.size === 0) return { found: 'same' }
    if (found.size > SESSION_FILES_MAX) return tooLarge(`it has more than ${SESSION_FILES_MAX} files`)
    const bytes = [...found.values()].reduce((sum, { size }) => sum + size, 0)
    if (bytes > SESSION_BYTES_MAX)
      return tooLarge(`it has ${megabytes(bytes)}, and ${megabytes(SESSION_BYTES_MAX)} are kept`)
    const stamps: Stamps = new Map([...found].map(([path, { stamp }]) => [path, stamp]))
    if (isSame(stamps, before)) return { found: 'same' }
    const read = new Map<string, Buffer>()
    for (const [path, stamp] of stamps) {
      const content = before.get(path) === stamp ? null : await readPlain(join(home, path))
      if (content !== null) read.set(path, content)
    }
    const after = await findFiles(home, folders)
    if (!isSame(new Map([...after].map(([path, { stamp }]) => [path, stamp])), stamps)) continue
    const packed = new Map<string, Buffer>()
    for (const [path, content] of read) packed.set(path, await deflate(mask(content), { level: LEVEL }))
    const size = [...packed.values()].reduce((sum, { length }) => sum + length, 0)
    if (size > SESSION_PACKED_BYTES_MAX)
      return tooLarge(`it is packed into ${megabytes(size)}, and ${megabytes(SESSION_PACKED_BYTES_MAX)} are kept`)
    return { found: 'session', stamps, packed }
  }
  return { found: 'unsettled' }
}

/** Puts a kept session back, in place of whatever is in its folders. Throws when it cannot be. */
export async function unpackSession(
  home: string,
  folders: readonly string[],
  files: KeptSession['files'],
): Promise<Stamps> {
  await clearSession(home, folders)
  let left = SESSION_BYTES_MAX
  for (const { path, packed } of files) {
    if (normalize(path) !== path || !folders.some((folder) => path === folder || path.startsWith(`${folder}/`)))
      throw new Error(`${path} is not in a session folder`)
    const content = await inflate(Buffer.from(packed ?? '', 'base64'), { maxOutputLength: Math.max(left, 1) })
    left -= content.length
    await makeWay(home, dirname(path))
    const file = await open(join(home, path), CREATE, 0o600)
    try {
      await file.writeFile(content)
    } finally {
      await file.close()
    }
  }
  return new Map([...(await findFiles(home, folders))].map(([path, { stamp }]) => [path, stamp]))
}

export async function clearSession(home: string, folders: readonly string[]): Promise<void> {
  for (const folder of folders)
    if (await isWay(home, dirname(folder))) await rm(join(home, folder), { recursive: true, force: true })
}

const NOFOLLOW = constants.O_NOFOLLOW ?? 0
const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | NOFOLLOW
const READ = constants.O_RDONLY | NOFOLLOW | (constants.O_NONBLOCK ?? 0)

type Found = Map<string, { stamp: string; size: number }>

/** Plain files in the folders, by their path below home. */
async function findFiles(home: string, folders: readonly string[]): Promise<Found> {
  const found: Found = new Map()
  for (const folder of folders) {
    if (await isWay(home, dirname(folder))) await addFiles(home, folder, found, 0)
  }
  return found
}

async function addFiles(home: string, path: string, found: Found, depth: number): Promise<void> {
  const stat = await lstat(join(home, path), { bigint: true }).catch(() => null)
  if (stat === null || found.size > SESSION_FILES_MAX) return
  if (stat.isDirectory() && depth < DEPTH_MAX) {
    const names = await readdir(join(home, path)).catch(() => [])
    for (const name of names.sort()) await addFiles(home, `${path}/${name}`, found, depth + 1)
  } else if (stat.isFile() && stat.nlink === 1n) {
    found.set(path, { stamp: `${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`, size: Number(stat.size) })
  }
}

/** Null when it has gone, or is no plain file any more. */
async function readPlain(path: string): Promise<Buffer | null> {
  const file = await open(path, READ).catch(() => null)
  if (file === null) return null
  try {
    const stat = await file.stat()
    return stat.isFile() && stat.nlink === 1 && stat.size <= SESSION_BYTES_MAX ? await file.readFile() : null
  } finally {
    await file.close()
  }
}

const partsOf = (path: string): string[] => path.split('/').filter((part) => part !== '' && part !== '.')

/** Every part is a real folder. */
async function isWay(home: string, path: string): Promise<boolean> {
  const parts = partsOf(path)
  for (let to = 1; to <= parts.length; to++) {
    const stat = await lstat(join(home, ...parts.slice(0, to))).catch(() => null)
    if (stat === null || !stat.isDirectory()) return false
  }
  return true
}

async function makeWay(home: string, path: string): Promise<void> {
  const parts = partsOf(path)
  for (let to = 1; to <= parts.length; to++) {
    const at = join(home, ...parts.slice(0, to))
    await mkdir(at, { mode: 0o700 }).catch(() => {})
    if (!(await lstat(at)).isDirectory()) throw new Error(`${parts.slice(0, to).join('/')} is not a folder`)
  }
}

const isSame = (a: Stamps, b: Stamps): boolean =>
  a.size === b.size && [...a].every(([path, stamp]) => b.get(path) === stamp)

const tooLarge = (why: string): PackResult => ({ found: 'too_large', why })
