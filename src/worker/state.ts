/** The worker's folder, for one worker at a time: two would sweep each other's sandboxes away. */
import { mkdir, open, readFile, realpath, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { bootId, identify, isAlive } from './sandboxes/proc.ts'

const Holder = z.object({ pid: z.int(), started: z.string().nullable(), boot_id: z.string() })

export class StateTaken extends Error {
  override readonly name = 'StateTaken'
}

export type StateFolder = { path: string; release(): Promise<void> }

/** Throws `StateTaken` while another living worker has the folder. */
export async function holdState(state_dir: string): Promise<StateFolder> {
  await mkdir(state_dir, { recursive: true, mode: 0o700 })
  const path = await realpath(state_dir)
  const lock = join(path, 'worker.lock')
  const mine = JSON.stringify({ ...identify(process.pid), boot_id: bootId() })
  for (let tries = 0; tries < 5; tries++) {
    if (await writeNew(lock, mine)) return { path, release: () => rm(lock, { force: true }) }
    const holder = await readHolder(lock)
    if (holder && holder.boot_id === bootId() && isAlive(holder)) {
      throw new StateTaken(
        `Another worker (process ${holder.pid}) uses ${path}. Stop it, or start this one with another --data-dir.`,
      )
    }
    await rm(lock, { force: true })
  }
  throw new StateTaken(`Another worker is starting in ${path}. Try again.`)
}

async function writeNew(path: string, text: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx', 0o600)
    await file.writeFile(text).finally(() => file.close())
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw error
  }
}

async function readHolder(path: string): Promise<z.infer<typeof Holder> | null> {
  try {
    return Holder.safeParse(JSON.parse(await readFile(path, 'utf8'))).data ?? null
  } catch {
    return null
  }
}
