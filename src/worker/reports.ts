/** Ends of executions that the server has not confirmed yet, on disk so that they outlive the worker. */
import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { FromWorker } from '../contract/index.ts'
import { folderName, writeAtomic } from './sandboxes/record.ts'

export type Reports = {
  /** Never rejects: a full disk costs the report its second life, not the run its end. */
  keep(execution_id: string, frame: FromWorker): Promise<void>
  drop(execution_id: string): Promise<void>
  list(): Promise<{ execution_id: string; frame: FromWorker }[]>
}

export async function openReports(state_dir: string, log: Logger): Promise<Reports> {
  const folder = join(state_dir, 'reports')
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const pathOf = (execution_id: string) => join(folder, `${folderName(execution_id)}.json`)
  return {
    keep: (execution_id, frame) =>
      writeAtomic(pathOf(execution_id), JSON.stringify(frame)).catch((err: unknown) => {
        log.warn(
          { execution_id, err },
          'The end of a run could not be written to disk. It is told to the server from memory.',
        )
      }),
    drop: (execution_id) => rm(pathOf(execution_id), { force: true }).catch(() => {}),
    list: async () => {
      const found: { execution_id: string; frame: FromWorker }[] = []
      for (const name of await readdir(folder)) {
        const frame = await readFrame(join(folder, name))
        if (frame && 'execution_id' in frame.data && frame.data.execution_id)
          found.push({ execution_id: frame.data.execution_id, frame })
        else await rm(join(folder, name), { force: true })
      }
      return found
    },
  }
}

async function readFrame(path: string): Promise<FromWorker | null> {
  try {
    return FromWorker.safeParse(JSON.parse(await readFile(path, 'utf8'))).data ?? null
  } catch {
    return null
  }
}
