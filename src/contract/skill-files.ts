/**
 * A `SKILL.md`: front matter with `name` and `description`, and a body that is instructions. Not in the barrel, since
 * the browser reads none.
 */
import { z } from 'zod'

export const SKILL_BYTES_MAX = 256 * 1024

export type SkillFile = { name: string | null; description: string | null; instructions: string }

const FrontMatter = z.looseObject({
  name: z.string().trim().min(1).optional(),
  description: z.string().trim().optional(),
})

/** `problem` says in words that follow "it cannot be used:" why the file is none. */
export async function parseSkillFile(bytes: Uint8Array): Promise<SkillFile | { problem: string }> {
  if (bytes.length > SKILL_BYTES_MAX) return { problem: `it is larger than ${SKILL_BYTES_MAX / 1024} KiB` }
  const text = textOf(bytes)
  if (text === null) return { problem: 'it is not UTF-8 text' }
  const parts = splitFrontMatter(text)
  if (parts === null) return { problem: 'its front matter has no end' }
  const instructions = parts.body.trim()
  if (instructions === '') return { problem: 'it has no instructions' }
  const said = parts.head === null ? {} : await readHead(parts.head)
  if ('problem' in said) return said
  return { name: said.name ?? null, description: said.description ?? null, instructions }
}

function textOf(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes).replaceAll('\r\n', '\n')
  } catch {
    return null
  }
}

/** Null: it begins and does not end. */
function splitFrontMatter(text: string): { head: string | null; body: string } | null {
  const lines = text.split('\n')
  const is_fence = (line: string | undefined) => line !== undefined && /^---\s*$/.test(line)
  if (!is_fence(lines[0])) return { head: null, body: text }
  const end = lines.findIndex((line, at) => at > 0 && is_fence(line))
  if (end < 0) return null
  return { head: lines.slice(1, end).join('\n'), body: lines.slice(end + 1).join('\n') }
}

async function readHead(
  head: string,
): Promise<{ name?: string | undefined; description?: string | undefined } | { problem: string }> {
  const { parse } = await import('yaml')
  let value: unknown
  try {
    value = parse(head, { maxAliasCount: 100 })
  } catch (error) {
    const [why] = error instanceof Error ? error.message.split('\n') : ['']
    return { problem: `its front matter is not YAML (${why})` }
  }
  const said = FrontMatter.safeParse(value ?? {})
  if (!said.success) return { problem: 'the name and description in its front matter must be text' }
  return { name: said.data.name, description: said.data.description }
}
