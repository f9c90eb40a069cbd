import type { Command } from 'commander'
import type { SkillAgent } from '../../contract/index.ts'
import { type Context, clientOf, type Given } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { paint } from '../output.ts'
import { ago, alignColumns, oneLine } from '../text.ts'

export function declare(command: Command): void {
  command
    .option('-r, --repo <repo>', 'OWNER/REPO, or its address on GitHub')
    .option('--refresh', 'read the repositories again')
    .option('--malformed', 'those, too, that cannot be used')
    .addOption(command.createOption('--sort-by <field>', 'name or last-run').choices(['name', 'last-run']))
}

export async function run(context: Context, { options }: Given): Promise<void> {
  const query = {
    ...(options.repo === undefined ? {} : { repo: repoOf(String(options.repo)) }),
    refresh: options.refresh === true,
    include_malformed_skills: options.malformed === true,
    sort_by: options.sortBy === 'last-run' ? ('last_run' as const) : ('name' as const),
  }
  const progress = context.out.progress('Reading the repositories')
  const answer = await clientOf(context)
    .agents.list({ query, signal: context.signal })
    .finally(() => progress.done())
  const { agents, repositories } = answer
  const now = Date.now()
  await context.out.show(
    answer,
    () => {
      const rows = agents.flatMap((agent) => rowsOf(agent, now))
      if (rows.length === 0) return []
      return alignColumns([['NAME', 'SKILL', 'LAST RUN', ''].map(paint.dim), ...rows], context.out.width)
    },
    () => agents,
  )
  if (context.out.machine) return
  for (const { repository, error } of repositories)
    if (error !== undefined) context.out.warn(`${oneLine(repository)}: ${oneLine(error)}`)
  if (agents.length === 0)
    context.out.note(
      repositories.length === 0
        ? 'No environment has a repository. Make one with: baton environment create -n NAME -r OWNER/REPO'
        : 'No skills. A skill is a folder with a SKILL.md in .agents/skills of a repository.',
    )
}

const rowsOf = ({ name, variants }: SkillAgent, now: number): string[][] =>
  variants.map(({ id, description, last_run_timestamp: last, error }) => [
    oneLine(name),
    oneLine(id),
    last === null ? 'never' : ago(last, now),
    error === undefined ? oneLine(description) : paint.red(oneLine(error)),
  ])

function repoOf(given: string): string {
  const [, repo] = /^(?:https:\/\/github\.com\/|git@github\.com:)?([\w.-]+\/[\w.-]+?)(?:\.git)?\/?$/.exec(given) ?? []
  if (repo !== undefined) return repo
  throw new CommandFailure(
    'usage',
    `"${given}" is no repository.`,
    'Write OWNER/REPO or https://github.com/OWNER/REPO.',
  )
}
