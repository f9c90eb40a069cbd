/** Options that `up` and `serve` have in common. */
import { resolve } from 'node:path'
import { z } from 'zod'
import type { Context } from './context.ts'
import { CommandFailure } from './exits.ts'

const Options = z.object({
  port: z.coerce
    .number('--port is a number')
    .int('--port is a whole number')
    .min(0, '--port is 0 to 65535')
    .max(65_535, '--port is 0 to 65535'),
  host: z.string().min(1),
  dataDir: z.string().min(1, '--data-dir is empty').optional(),
  readyFile: z.string().min(1).optional(),
  logLevel: z.string(),
})

export type Serving = {
  port: number
  host: string
  data_dir: string | undefined
  ready_file: string | undefined
  log_level: string
}

export function parseServing(context: Context, options: Record<string, unknown>): Serving {
  const parsed = Options.safeParse(options)
  if (!parsed.success) throw new CommandFailure('usage', `${parsed.error.issues[0]?.message ?? 'Wrong option'}.`)
  const { port, host, dataDir, readyFile, logLevel } = parsed.data
  const path = (given: string | undefined) => (given === undefined ? undefined : resolve(context.cwd, given))
  return { port, host, data_dir: path(dataDir), ready_file: path(readyFile), log_level: logLevel }
}
