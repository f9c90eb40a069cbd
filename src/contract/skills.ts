/**
 * Skills: folders with a `SKILL.md`, whose front matter names them and whose body is instructions. A run names them by
 * `name`, `repo:name`, `org/repo:name`, or with the path of the file or its folder in place of the name. They are
 * looked for where the run has its repositories, when it starts.
 */
import { z } from 'zod'

/** Folders of a repository in which skills may lie, the first goes first. */
export const SKILL_FOLDERS = [
  '.agents/skills',
  '.warp/skills',
  '.claude/skills',
  '.codex/skills',
  '.cursor/skills',
  '.gemini/skills',
  '.copilot/skills',
  '.factory/skills',
  '.github/skills',
  '.opencode/skills',
] as const

/** That came with a run. `text`: of its `SKILL.md`; empty: it did not come along. */
export const GivenSkill = z.object({ name: z.string(), description: z.string(), text: z.string() })
export type GivenSkill = z.infer<typeof GivenSkill>

export type SkillPlace = { org: string | null; repo: string | null } & ({ name: string } | { path: string })

/** Null for what cannot name a skill. */
export function parseSkillSpec(spec: string): SkillPlace | null {
  const [, where, what = ''] = /^(?:([^:]*):)?([^:]*)$/.exec(spec.trim()) ?? []
  const parts = where?.split('/') ?? []
  if (parts.length > 2 || !parts.every(isPlain)) return null
  const place = { org: parts.length === 2 ? (parts[0] ?? null) : null, repo: parts.at(-1) ?? null }
  const path = what.replace(/\/+$/, '')
  if (!path.split('/').every(isPlain)) return null
  return path.includes('/') || path.endsWith('.md') ? { ...place, path } : { ...place, name: path }
}

const isPlain = (part: string): boolean =>
  part !== '' && part !== '.' && part !== '..' && !part.startsWith('-') && !/[\p{Cc}\\]/u.test(part)

/** What a skill is called before its file has been read. */
export function skillNameOf(spec: string): string {
  const place = parseSkillSpec(spec)
  if (place === null) return spec
  if ('name' in place) return place.name
  return (
    place.path
      .replace(/\/?SKILL\.md$/i, '')
      .split('/')
      .at(-1) ||
    place.repo ||
    spec
  )
}

export const SkillSpec = z
  .string()
  .max(1024)
  .refine(
    (spec) => parseSkillSpec(spec) !== null,
    'A skill is named as name, repo:name or org/repo:name, with a relative path in place of the name where it has one.',
  )
