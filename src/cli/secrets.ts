/** What the commands of secrets have in common: where a value comes from, which secret is meant, and how one is shown. */
import { isUtf8 } from 'node:buffer'
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { z } from 'zod'
import { type NewSecret, SECRET_BYTES_MAX, type Secret } from '../contract/index.ts'
import { askSecret } from './ask.ts'
import { type Context, clientOf, readBytes } from './context.ts'
import { CommandFailure } from './exits.ts'
import { paint } from './output.ts'
import { declareScope, scopeOf } from './scope.ts'
import { ago, oneLine } from './text.ts'

/** The options that say where a secret belongs. */
export const declarePlace = (command: Command): Command =>
  declareScope(command).option('-e, --environment <environment>', 'uid or name: only for runs in it')

export const declareValue = (command: Command): Command =>
  command.option('-f, --value-file <file>', 'read the value from a file; without it, from stdin')

const Options = z.object({
  valueFile: z.string().optional(),
  description: z.string().optional(),
  environment: z.string().optional(),
})

/** Where and what a new secret is, as the body of a request says it. */
export function placeOf(options: Record<string, unknown>): Pick<NewSecret, 'team' | 'environment_id' | 'description'> {
  const { description, environment } = Options.parse(options)
  return {
    ...scopeOf(options),
    ...(environment === undefined ? {} : { environment_id: environment }),
    ...(description === undefined ? {} : { description }),
  }
}

/** From the file, from stdin, or from a person; never from an argument, which everybody on the machine could read. */
export async function readValue(context: Context, options: Record<string, unknown>, what: string): Promise<string> {
  const { valueFile } = Options.parse(options)
  if (valueFile !== undefined && valueFile !== '-') return fromFile(context, valueFile, what)
  if (context.stdin.isTTY === true) {
    if (context.interactive) return needed(await askSecret(context, `${what} (it is not shown):`))
    throw new CommandFailure('usage', `${what} is needed.`, 'Pipe it in, or name a file with --value-file.')
  }
  return needed(textOf(await readBytes(context.stdin, SECRET_BYTES_MAX, what), what))
}

async function fromFile(context: Context, file: string, what: string): Promise<string> {
  const path = resolve(context.cwd, file)
  const bytes = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    throw new CommandFailure('usage', `The value file ${path} cannot be read (${error.code ?? error.message}).`)
  })
  if (bytes.length > SECRET_BYTES_MAX)
    throw new CommandFailure('usage', `The value file ${path} is larger than ${SECRET_BYTES_MAX} bytes.`)
  return needed(textOf(bytes, what))
}

/** As it is, or not at all: a value with other bytes in it would open nothing. */
function textOf(bytes: Uint8Array, what: string): string {
  if (isUtf8(bytes)) return withoutEnd(new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes))
  const hint = 'A variable takes text alone. Keep it in base64, and let the run decode it.'
  throw new CommandFailure('usage', `${what} is not text in UTF-8.`, hint)
}

/** The end of the one line is the shell's or the editor's; of several lines, the last may need its own. */
const withoutEnd = (text: string): string => (/^[^\n]*\n$/.test(text) ? text.replace(/\r?\n$/, '') : text)

function needed(value: string): string {
  if (value !== '') return value
  throw new CommandFailure('usage', 'There is no value.', 'Pipe it in, or name a file with --value-file.')
}

/** The one that is meant by name or uid, in the place that the options say, if they say one. */
export async function findSecret(context: Context, asked: string, options: Record<string, unknown>): Promise<Secret> {
  const { environment } = Options.parse(options)
  const { team } = scopeOf(options)
  const query = environment === undefined ? {} : { environment_id: environment }
  const { secrets } = await clientOf(context).secrets.list({ query, signal: context.signal })
  const type = environment !== undefined ? 'Environment' : team === undefined ? undefined : team ? 'Team' : 'User'
  const found = secrets.filter(
    ({ uid, name, scope }) => (uid === asked || name === asked) && (type === undefined || scope.type === type),
  )
  const [only, ...others] = found
  if (only && others.length === 0) return only
  if (only) {
    const places = found.map(({ uid, scope }) => `${uid} (${PLACES[scope.type]})`).join(', ')
    throw new CommandFailure(
      'usage',
      `Several secrets are named "${asked}": ${places}.`,
      'Say which with --team, --personal or --environment, or use the uid.',
    )
  }
  const names = [...new Set(secrets.map(({ name }) => name))]
  throw new CommandFailure(
    'not_found',
    `There is no secret "${asked}"${type === undefined ? '' : ' there'}.`,
    names.length === 0 ? 'There are none yet.' : `There are: ${names.join(', ')}.`,
  )
}

export const PLACES = { Team: 'team', User: 'personal', Environment: 'environment' } as const

export const typeName = (type: Secret['type']): string => type.replaceAll('_', '-')

export function showSecret(context: Context, secret: Secret, done: string): Promise<void> {
  return context.out.show(secret, () => [
    `${done} ${PLACES[secret.scope.type]} secret ${paint.bold(oneLine(secret.name))} (${typeName(secret.type)}).`,
  ])
}

export const lastUse = ({ last_used_at, last_used_by }: Secret, now: number): string =>
  last_used_at === null
    ? 'never'
    : `${ago(last_used_at, now)}${last_used_by?.display_name ? ` by ${oneLine(last_used_by.display_name)}` : ''}`
