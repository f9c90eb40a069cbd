/**
 * Skills that came with the run, in a folder of its sandbox that no repository knows: its agent is told which there are
 * and reads what its task calls for. The run may also follow one of them by its name.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type GivenSkill, SKILL_FOLDERS } from '../contract/index.ts'
import type { Transcript } from './transcript.ts'

/** Where they lie, below the folder of the execution. */
export const givenFolder = (folder: string): string => join(folder, 'given')

/** Answers what the agent is told. */
export async function putSkills(folder: string, skills: GivenSkill[], transcript: Transcript): Promise<string> {
  const lines: string[] = []
  const taken = new Set<string>()
  for (const skill of skills) {
    const { name, description } = skill
    if (skill.text.trim() === '') {
      const said = `The skill ${name} came without its text: the client that started this run has it alone.`
      transcript.system('warning', 'skill_missing', said)
      continue
    }
    const own = join(givenFolder(folder), SKILL_FOLDERS[0], unique(plain(name), taken))
    await mkdir(own, { recursive: true, mode: 0o700 })
    await writeFile(join(own, 'SKILL.md'), withHead(skill))
    lines.push(`- ${name}${description === '' ? '' : `: ${description}`} (${join(own, 'SKILL.md')})`)
  }
  if (lines.length === 0) return ''
  transcript.system('info', 'skills_given', `${lines.length} skills came with this run.`)
  return ['Skills for you. Read the file of one when your task calls for it, and follow it:', ...lines].join('\n')
}

/** JSON is YAML, too. */
const withHead = ({ name, description, text }: GivenSkill): string =>
  text.startsWith('---')
    ? text
    : `---\nname: ${JSON.stringify(name)}\ndescription: ${JSON.stringify(description)}\n---\n\n${text}`

const plain = (name: string): string => name.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^[.-]+/, '') || 'skill'

function unique(name: string, taken: Set<string>): string {
  const free = taken.has(name) ? `${name}-${taken.size + 1}` : name
  taken.add(free)
  return free
}
