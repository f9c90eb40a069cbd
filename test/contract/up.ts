/** `baton up`, built and unchanged, for all tests of the contract: PostgreSQL, server and a worker. */
import type { TestProject } from 'vitest/node'
import { emptyPlace, startUp } from '../house/baton.ts'
import { until } from '../house/processes.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    /** `worker_host` is the worker of `baton up`. */
    baton: { url: string; api_key: string; folder: string; worker_host: string }
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const place = await emptyPlace()
  try {
    const up = await startUp(place, ['--port', '0', '--max-concurrent', '40'])
    const { worker_host } = await until('the worker is there', async () => {
      const { workers } = await up.client.workers.list()
      return workers[0] ?? null
    })
    project.provide('baton', { url: up.url, api_key: up.api_key, folder: place.folder, worker_host })
    return async () => {
      await up.process.kill('SIGTERM')
      await place.remove()
    }
  } catch (error) {
    await place.remove()
    throw error
  }
}
