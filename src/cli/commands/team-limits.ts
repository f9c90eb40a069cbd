import type { Command } from 'commander'
import { ChangeTeamLimits as Change, type ChangeTeamLimits, type TeamLimits } from '../../contract/index.ts'
import { type Context, clientOf, type Given } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { alignColumns } from '../text.ts'

/** Each with its option, and what it limits in words. */
const LIMITS: [keyof TeamLimits, string, string][] = [
  ['max_concurrent_runs', '--max-concurrent <runs>', 'runs of the team under way at once; the others wait'],
  ['max_depth', '--max-depth <levels>', 'levels of children below a run; 0: no run may have children'],
  ['max_children', '--max-children <runs>', 'children of one run'],
  ['max_tree_runs', '--max-tree-runs <runs>', 'runs of one tree, its root among them'],
  ['max_tree_messages', '--max-tree-messages <messages>', 'messages that the runs of a tree send each other'],
  ['max_tree_wakes', '--max-tree-wakes <wakes>', 'times that the runs of a tree wake each other'],
  ['max_hops', '--max-hops <messages>', 'messages of one chain, each caused by the one before'],
  ['max_tree_tokens', '--max-tree-tokens <tokens>', 'tokens that a tree uses; "none": no limit'],
  ['max_batch_tasks', '--max-batch-tasks <tasks>', 'tasks of one batch'],
  ['max_file_bytes', '--max-file-bytes <bytes>', 'bytes of all files sent; "none": no limit'],
  ['children_ask', '--children-ask <true|false>', 'plans of children wait for a person, too'],
]

export function declare(command: Command): void {
  for (const [, flags, words] of LIMITS) command.option(flags, words)
  command.addHelpText(
    'after',
    `
Without an option it shows them. Changing them takes an admin of the team.

Examples:
  baton team limits --max-depth 2 --max-concurrent 20
  baton team limits --max-tree-tokens none`,
  )
}

export async function run(context: Context, given: Given): Promise<void> {
  const { out, signal } = context
  const { team } = clientOf(context)
  const change = changeOf(given.options)
  const limits =
    Object.keys(change).length > 0 ? await team.changeLimits({ body: change, signal }) : await team.limits({ signal })
  await out.show(limits, () =>
    alignColumns(
      LIMITS.map(([name, , words]) => [name, limits[name] === null ? 'none' : String(limits[name]), words]),
      out.width,
    ),
  )
}

function changeOf(options: Record<string, unknown>): ChangeTeamLimits {
  const asked: Record<string, unknown> = {}
  for (const [name, flags] of LIMITS) {
    const option = (flags.split(' ')[0] ?? '').slice(2)
    const value = options[option.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())]
    if (value === undefined) continue
    asked[name] = limitOf(value)
    const checked = Change.safeParse({ [name]: asked[name] })
    if (checked.success && value !== '') continue
    const why = checked.error?.issues[0]?.message.replace(/^[A-Z]/, (letter) => letter.toLowerCase()) ?? 'it is empty'
    throw new CommandFailure('usage', `--${option} ${JSON.stringify(value)} is not valid: ${why}.`, 'See --help.')
  }
  return Change.parse(asked)
}

function limitOf(given: unknown): unknown {
  if (given === 'none') return null
  if (given === 'true' || given === 'false') return given === 'true'
  const number = Number(given)
  return Number.isNaN(number) ? given : number
}
