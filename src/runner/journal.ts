/**
 * The journal: every entry of an execution, one JSON line each, in a file that is only ever appended to.
 *
 * An entry is here before it is sent, so that neither a server that is away nor a killed runner loses one. Numbers
 * are dense. Reading is by number and goes to the file: what waits to be sent costs no memory. A line that a crash
 * tore is dropped when the journal is opened again; it was never sent.
 */
import { closeSync, constants, ftruncateSync, mkdirSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { type EntryBody, NewEntry } from '../contract/index.ts'

export type Journal = {
  /** Highest number written; what the server already held counts. */
  readonly highest: number
  /** Bytes of all entry lines. */
  readonly bytes: number
  /** True when entries of an earlier runner of this execution were found. */
  readonly resumed: boolean
  /** Throws `JournalFull` when the disk takes no more; what was written before stays whole. */
  append(body: EntryBody): NewEntry
  /** Entries after `number`, in order: at most `count` and about `bytes_max` together, but one if there is one. */
  read(number: number, count: number, bytes_max: number): NewEntry[]
  close(): void
  remove(): void
}

export class JournalFull extends Error {
  override readonly name = 'JournalFull'
}

const READ_BYTES = 256 * 1024
const FULL_CODES = ['ENOSPC', 'EDQUOT', 'EFBIG', 'EIO', 'EROFS']

export type JournalOptions = { path: string; entries_held: number; now?: () => Date }

export function openJournal({ path, entries_held, now = () => new Date() }: JournalOptions): Journal {
  const fd = open(path)
  const found = scan(fd)
  ftruncateSync(fd, found.bytes)
  let size = found.bytes
  let highest = Math.max(found.highest, entries_held)
  /** Where the line after entry `number` begins: reading goes forward, so the next read starts here. */
  let cursor = { number: found.first - 1, offset: 0 }

  function append(body: EntryBody): NewEntry {
    const entry: NewEntry = { number: highest + 1, at: now().toISOString(), body }
    const line = Buffer.from(`${JSON.stringify(entry)}\n`)
    try {
      writeWhole(fd, line, size)
    } catch (cause) {
      ftruncateSync(fd, size)
      if (!isFull(cause)) throw cause
      throw new JournalFull(`No space is left for the transcript in ${dirname(path)}.`, { cause })
    }
    if (size === 0) cursor = { number: highest, offset: 0 }
    size += line.length
    highest += 1
    return entry
  }

  function read(number: number, count: number, bytes_max: number): NewEntry[] {
    if (number < cursor.number) cursor = { number: found.first - 1, offset: 0 }
    const entries: NewEntry[] = []
    let taken = 0
    for (const line of lines(fd, cursor.offset, size)) {
      if (entries.length >= count || (entries.length > 0 && taken + line.length > bytes_max)) break
      const entry = NewEntry.parse(JSON.parse(line.toString()))
      if (entry.number > number) {
        entries.push(entry)
        taken += line.length
      } else cursor = { number: entry.number, offset: cursor.offset + line.length + 1 }
    }
    return entries
  }

  return {
    get highest() {
      return highest
    },
    get bytes() {
      return size
    },
    resumed: found.highest > 0 || entries_held > 0,
    append,
    read,
    close: () => closeSync(fd),
    remove: () => rmSync(path, { force: true }),
  }
}

function open(path: string): number {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    return openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600)
  } catch (cause) {
    if (isFull(cause)) throw new JournalFull(`No space is left for the transcript in ${dirname(path)}.`, { cause })
    throw cause
  }
}

/** The whole, dense lines at the file's beginning. */
function scan(fd: number): { first: number; highest: number; bytes: number } {
  let first = 1
  let highest = 0
  let bytes = 0
  for (const line of lines(fd, 0, Number.MAX_SAFE_INTEGER)) {
    const entry = NewEntry.safeParse(parsed(line))
    if (!entry.success || (bytes > 0 && entry.data.number !== highest + 1)) break
    if (bytes === 0) first = entry.data.number
    highest = entry.data.number
    bytes += line.length + 1
  }
  return { first, highest, bytes }
}

/** Whole lines from `offset` to `end`, without their line feeds. */
function* lines(fd: number, offset: number, end: number): Generator<Buffer> {
  let rest: Buffer[] = []
  for (let at = offset; at < end; ) {
    const chunk = Buffer.allocUnsafe(Math.min(READ_BYTES, end - at))
    const got = readSync(fd, chunk, 0, chunk.length, at)
    if (got === 0) return
    at += got
    let from = 0
    for (let feed = chunk.indexOf(10, 0); feed !== -1 && feed < got; feed = chunk.indexOf(10, from)) {
      yield Buffer.concat([...rest, chunk.subarray(from, feed)])
      rest = []
      from = feed + 1
    }
    rest.push(chunk.subarray(from, got))
  }
}

function writeWhole(fd: number, line: Buffer, size: number): void {
  for (let done = 0; done < line.length; ) done += writeSync(fd, line, done, line.length - done, size + done)
}

function parsed(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString())
  } catch {
    return undefined
  }
}

const isFull = (cause: unknown) => cause instanceof Error && 'code' in cause && FULL_CODES.includes(String(cause.code))
