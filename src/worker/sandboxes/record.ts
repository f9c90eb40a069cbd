/** The record of a sandbox on disk: what a worker started later needs to know it again. */
import { createHash, randomUUID } from 'node:crypto'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'

export const SandboxRecord = z.object({
  version: z.literal(1),
  execution_id: z.string(),
  task_id: z.string(),
  token_hash: z.string(),
  /** Providers for which it has keys of its own, which are in no file. */
  own_models: z.array(z.string()).default([]),
  opened_at: z.string(),
  /** Of the boot in which the pid was given; pids of another boot mean nothing. */
  boot_id: z.string(),
  /** Null until the runner was started. Its pid is also its session and its process group. */
  process: z.object({ pid: z.int(), started: z.string().nullable() }).nullable(),
  cgroup: z.object({ folders: z.array(z.string()) }).nullable(),
})
export type SandboxRecord = z.infer<typeof SandboxRecord>

export const RECORD_FILE = 'sandbox.json'

/** A file name for an id from outside: the id itself where it is harmless, else its hash. */
export function folderName(execution_id: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$/.test(execution_id)) return execution_id
  return `x-${sha256(execution_id)}`
}

export const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')

/**
 * Whole or not at all, whenever this process is killed. Not synced to the disk: a power loss ends every sandbox
 * too, and what is left of a record is then swept away.
 */
export async function writeAtomic(path: string, text: string): Promise<void> {
  const temporary = join(dirname(path), `.${randomUUID()}.tmp`)
  await writeFile(temporary, text, { flag: 'wx', mode: 0o600 })
  await rename(temporary, path)
}

export const writeRecord = (folder: string, record: SandboxRecord): Promise<void> =>
  writeAtomic(join(folder, RECORD_FILE), JSON.stringify(record))

/** Null when there is none that can be read. */
export async function readRecord(folder: string): Promise<SandboxRecord | null> {
  const text = await readFile(join(folder, RECORD_FILE), 'utf8').catch(() => null)
  if (text === null) return null
  try {
    return SandboxRecord.safeParse(JSON.parse(text)).data ?? null
  } catch {
    return null
  }
}
