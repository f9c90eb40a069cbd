import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { askedRun, declareAsking } from '../asking.ts'
import { type Context, clientOf, type Given, webAddress } from '../context.ts'
import { endOf } from '../exit-report.ts'
import { CommandFailure, EXIT } from '../exits.ts'
import { localPrinter } from '../local-printer.ts'
import { collect } from '../named.ts'
import { paint } from '../output.ts'

export function declare(command: Command): void {
  declareAsking(command).option('-C, --cwd <dir>', 'work in this folder')
  const hidden = [
    '--task-id <run>',
    '--idle-on-complete [duration]',
    '--idle-on-fail [duration]',
    '--skip-initial-turn',
    '--configure-git-credentials-with-github',
    '--remove-repository-origins',
  ]
  for (const flags of hidden) command.addOption(command.createOption(flags).hideHelp())
  for (const flags of SEVERAL) command.addOption(command.createOption(flags).argParser(collect).hideHelp())
  command.addHelpText(
    'after',
    '\nThe run is registered with the server and worked on here, in the current folder. It asks for nothing: see --permissions.',
  )
}

const SEVERAL = ['--mcp-server <uuid>', '--repository-head-override-json <json>']
/** They say how a worker begins a run. */
const WITH_TASK = [
  'skipInitialTurn',
  'configureGitCredentialsWithGithub',
  'repositoryHeadOverrideJson',
  'removeRepositoryOrigins',
]

export async function run(context: Context, given: Given): Promise<number> {
  const task_id = given.options.taskId
  if (task_id !== undefined) {
    throw new CommandFailure(
      'usage',
      '--task-id is for workers: it needs BATON_EXECUTION_ID, and WARP_API_KEY with the token of an execution.',
    )
  }
  const alone = WITH_TASK.find((name) => given.options[name] !== undefined)
  if (alone !== undefined)
    throw new CommandFailure('usage', `--${alone.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)} needs --task-id.`)
  if (given.options.mcpServer !== undefined)
    throw new CommandFailure(
      'usage',
      '--mcp-server names a server that Oz keeps.',
      'Give it as JSON with --mcp, or give it to an environment; see: baton mcp list.',
    )
  const client = clientOf(context)
  const { out, settings, signal } = context
  const workspace = await folderOf(context, given.options.cwd)
  const body = await askedRun(context, given.options, undefined)
  const created = await client.executions.create({ body, signal })
  const { run_id, execution_id, token } = created
  const page = webAddress(context, run_id)
  await out.record({ type: 'system', event_type: 'run_started', run_id, run_url: page }, () => [
    `Run ID: ${run_id}`,
    `Open in Oz: ${page}`,
  ])
  const printer = localPrinter(out)
  const { runExecution } = await import('../../runner/run.ts')
  const report = await runExecution({
    server: settings.server.value ?? '',
    token,
    execution_id,
    version: context.version,
    env: context.env,
    workspace,
    place: 'local',
    signal,
    onEntry: printer.entry,
  })
  await printer.done()
  const end = endOf(report, signal)
  if ('said' in end) throw new CommandFailure(end.exit, end.said)
  if (end.exit === 'ok') return EXIT.ok
  out.note(paint.yellow('Cancelled.'))
  return EXIT[end.exit]
}

async function folderOf(context: Context, given: unknown): Promise<string> {
  const folder = resolve(context.cwd, typeof given === 'string' ? given : '.')
  const there = await stat(folder).catch(() => null)
  if (!there?.isDirectory()) throw new CommandFailure('usage', `${folder} is not a folder.`, 'Name another with --cwd.')
  return folder
}
