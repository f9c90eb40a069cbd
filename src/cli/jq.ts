/** jq filters by jq itself (jq-wasm), loaded only when one is given. */
import { whyOf } from '../contract/why.ts'
import { CommandFailure } from './exits.ts'

export type Jq = (value: unknown) => Promise<string>

/** Refuses a filter that does not compile, before anything else is done with it. */
export async function compileJq(filter: string): Promise<Jq> {
  const jq = await import('jq-wasm')
  const run = async (json: string, program: string): Promise<string> => {
    try {
      return await jq.raw(json, program, ['-r'])
    } catch (error) {
      throw new CommandFailure(
        'usage',
        `The jq filter does not work: ${reason(error)}`,
        'Filters are written as for jq 1.8, such as --jq ".runs[].run_id".',
      )
    }
  }
  await run('null', `empty | (${filter}\n)`)
  return (value) => run(JSON.stringify(value), filter)
}

function reason(error: unknown): string {
  const text = whyOf(error)
  return (
    text
      .replace(/^(Failed to execute raw query: )+/, '')
      .replace(/^jq: error: /, '')
      .split('\n')[0] ?? text
  )
}
