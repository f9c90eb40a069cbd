/** For tasks whose harness is a command: what `BATON_RESULTS` names, without a JSON tool of their own. */
import { readFile } from 'node:fs/promises'
import { TaskResult } from '../../contract/index.ts'
import type { Context } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { paint } from '../output.ts'

export function declare(): void {}

export async function run({ env, out }: Context): Promise<void> {
  const results = TaskResult.array().parse(JSON.parse(await read(env.BATON_RESULTS)))
  await out.show(
    results,
    () => results.flatMap(({ name, state, text }) => [paint.bold(`${name} (${state})`), text, '']),
    () => results,
  )
}

async function read(path: string | undefined): Promise<string> {
  if (path === undefined || path === '') return '[]'
  return readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new CommandFailure('not_found', `The results cannot be read from ${path} (${error.code ?? error.message}).`)
  })
}
