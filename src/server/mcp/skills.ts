/** Skill documents shipped for agents: folders of `skills/` with a `SKILL.md`, in this room or beside the bundle. */
import { readFile } from 'node:fs/promises'
import { z } from 'zod'

const FrontMatter = z.object({ name: z.string().min(1), description: z.string().min(1) })

export type Skill = z.infer<typeof FrontMatter> & {
  uri: string
  /** The whole document, front matter and all. */
  text: string
}

/** As a source this file lies in a room's folder, bundled it lies beside the skills. */
const PLACES = ['../skills/', './skills/']

export async function readSkill(name: string): Promise<Skill> {
  const text = await readFirst(PLACES.map((place) => new URL(`${place}${name}/SKILL.md`, import.meta.url)))
  const [, head = ''] = /^---\n([\s\S]*?)\n---\n/.exec(text) ?? []
  const fields = head.split('\n').map((line): [string, string] => {
    const colon = line.indexOf(':')
    return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()]
  })
  return { ...FrontMatter.parse(Object.fromEntries(fields)), uri: `skill://${name}/SKILL.md`, text }
}

async function readFirst(places: URL[]): Promise<string> {
  for (const place of places) {
    const text = await readFile(place, 'utf8').catch((error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
      throw error
    })
    if (text !== null) return text
  }
  throw new Error(`The skill is not there: ${places.map(String).join(', ')}.`)
}
