import { readFile, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { isInside } from './tools/paths.ts'

const guide_chars_max = 20_000

/** The system prompt: how to work, where, and what the repository's own guide says. */
export async function renderInstructions(cwd: string, problems: string[]): Promise<string> {
  const guide = await readGuide(cwd)
  return [
    'You are Baton, a coding agent. You work alone in the folder named below, through the tools you are given, ' +
      'until what you were asked for is done or cannot be done.',
    '- Look before you change: list, search and read what matters. Never guess what a file holds.',
    '- Make the smallest change that does the whole job, in the style of the code around it.',
    '- Check your work by running what the repository has for it: tests, type checks, linters, a build.',
    '- Commands have no input and nobody watches them: use options that do not ask, never an editor or pager.',
    '- Use todo for work of more than two steps, and keep it true.',
    '- Do not commit, push or change anything outside of the workspace unless you were asked to.',
    '- When a tool fails, read what it says, and try another way; do not repeat the same call.',
    '- End with a short, honest account: what you did, what you checked and how, what is left.',
    `\nWorkspace: ${cwd}\nPlatform: ${process.platform}`,
    ...problems.map((problem) => `\nNot available in this session: ${problem}`),
    ...(guide ? [`\nThe repository's own guide:\n${guide}`] : []),
  ].join('\n')
}

async function readGuide(cwd: string): Promise<string | undefined> {
  for (const name of ['AGENTS.md', 'CLAUDE.md']) {
    const file = await realpath(join(cwd, name)).catch(() => undefined)
    if (file === undefined || !isInside(cwd, file)) continue
    const text = await readFile(file, 'utf8').catch(() => '')
    if (text.trim() !== '') return text.slice(0, guide_chars_max)
  }
  return undefined
}
