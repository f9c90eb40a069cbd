/** The built command line, asked of a real server with its owner's key. */
import { expect } from 'vitest'
import type { House } from '../house/house.ts'
import type { Ended, Home } from './baton.ts'

/** `reach` is asked at each call: both are made only when the tests begin. */
export function asking(reach: () => { home: Home; house: House }) {
  const baton = (...args: string[]): Promise<Ended> => {
    const { home, house } = reach()
    return home.run(args, { env: { BATON_SERVER: house.url, BATON_API_KEY: house.api_key } })
  }
  return {
    baton,
    /** What a command that succeeds answers with `--json`. */
    async json<T>(...args: string[]): Promise<T> {
      const { code, stdout, stderr } = await baton(...args, '--json')
      expect(code, stderr).toBe(0)
      return JSON.parse(stdout) as T
    },
  }
}
