/** `baton up`, built and unchanged, for all tests of the contract: PostgreSQL, server and a worker. */
import type { TestProject } from 'vitest/node'
import { emptyPlace, startUp } from '../house/baton.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    baton: { url: string; api_key: string; folder: string }
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const place = await emptyPlace()
  try {
    const up = await startUp(place, ['--port', '0', '--max-concurrent', '40'])
    project.provide('baton', { url: up.url, api_key: up.api_key, folder: place.folder })
    return async () => {
      await up.process.kill('SIGTERM')
      await place.remove()
    }
  } catch (error) {
    await place.remove()
    throw error
  }
}
