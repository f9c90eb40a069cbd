/** Templates: patterns of work that are known to go well, as files of `templates/` beside this room or the bundle. */
import { readdir, readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Context } from './context.ts'
import { CommandFailure } from './exits.ts'
import { checkKeys } from './keys.ts'
import { repositoryOf } from './repositories.ts'
import { type Rendered, readValues, renderWith, Template, TemplateTrouble } from './template-rendering.ts'

/** As a source this file lies two folders deep, bundled one. */
const PLACES = ['../../templates/', '../templates/'].map((place) => new URL(place, import.meta.url))

const ENDING = '.yaml'

/** In the order of their names. */
export async function listTemplates(): Promise<Template[]> {
  const names = await Promise.all(PLACES.map((place) => readdir(place).catch(() => [])))
  const found = new Set(names.flat().filter((name) => name.endsWith(ENDING)))
  return Promise.all([...found].sort().map((name) => readTemplate(name.slice(0, -ENDING.length))))
}

/** By its name, or a file of one's own: what has a / or ends in .yaml. */
export async function readTemplate(name: string, cwd = '.'): Promise<Template> {
  if (/[/\\]|\.ya?ml$/.test(name)) return parseTemplate(name, await readOwn(resolve(cwd, name), name))
  const text = /^[a-z][a-z0-9-]*$/.test(name) ? await readFirst(name) : null
  if (text === null) {
    const names = (await listTemplates()).map((template) => template.name)
    throw new CommandFailure('not_found', `There is no template "${name}".`, `There are: ${names.join(', ')}.`)
  }
  return parseTemplate(name, text)
}

async function parseTemplate(name: string, text: string): Promise<Template> {
  const { parse } = await import('yaml')
  let value: unknown
  try {
    value = parse(text, { maxAliasCount: 100 })
  } catch (error) {
    const why = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
    throw new CommandFailure('usage', `Template ${name} is not YAML: ${why}`)
  }
  const parsed = Template.safeParse(checkKeys(value, `Template ${name}`))
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new CommandFailure('usage', `Template ${name}: ${issue?.path.join('.')}: ${issue?.message}`)
}

function readOwn(path: string, name: string): Promise<string> {
  return readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new CommandFailure('usage', `Template ${name} cannot be read (${error.code ?? error.message}).`)
  })
}

async function readFirst(name: string): Promise<string | null> {
  for (const place of PLACES) {
    const text = await readFile(new URL(`${name}${ENDING}`, place), 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null
      throw error
    })
    if (text !== null) return text
  }
  return null
}

/** The template with the values of `sets`, each NAME=VALUE; what is wrong about them is the caller's to correct. */
export async function renderTemplate(context: Context, name: string, sets: string[]): Promise<Rendered> {
  const template = await readTemplate(name, context.cwd)
  try {
    return renderWith(
      template,
      readValues(template, sets, (given) => urlOf(context, given)),
    )
  } catch (error) {
    if (!(error instanceof TemplateTrouble)) throw error
    throw new CommandFailure('usage', error.message, `See: baton template show ${name}.`)
  }
}

function urlOf({ cwd }: Context, given: string): string {
  const { url, ref } = repositoryOf(cwd, given)
  if (ref !== undefined)
    throw new TemplateTrouble(`"${given}" names a state of the repository; give the repository without #${ref}.`)
  return url
}
