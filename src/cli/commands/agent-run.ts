import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { EXECUTION_TOKEN_PATTERN } from '../../contract/index.ts'
import type { ExitReport } from '../../runner/run.ts'
import { askedRun, declareAsking } from '../asking.ts'
import { type Context, clientOf, type Given, webAddress } from '../context.ts'
import { CommandFailure, EXIT } from '../exits.ts'
import { localPrinter } from '../local-printer.ts'
import { paint } from '../output.ts'

export function declare(command: Command): void {
  declareAsking(command).option('-C, --cwd <dir>', 'work in this folder')
  const hidden = [
    '--task-id <run>',
    '--sandboxed',
    '--gui',
    '--mcp-server <uuid>',
    '--idle-on-complete [duration]',
    '--idle-on-fail [duration]',
    '--skip-initial-turn',
    '--configure-git-credentials-with-github',
    '--repository-head-override-json <json>',
    '--remove-repository-origins',
  ]
  for (const flags of hidden) command.addOption(command.createOption(flags).hideHelp())
  command.addHelpText(
    'after',
    '\nThe run is registered with the server and worked on here, in the current folder. It asks for nothing: see --permissions.',
  )
}

export async function run(context: Context, given: Given): Promise<number> {
  const task_id = given.options.taskId
  if (task_id !== undefined) return managed(context, given.options)
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
  return exitOf(context, report)
}

/** What a worker starts: everything is in the environment and in the assignment, the options only repeat it. */
async function managed(context: Context, options: Record<string, unknown>): Promise<number> {
  const { env, settings, signal } = context
  if (options.prompt !== undefined || options.file !== undefined)
    throw new CommandFailure('usage', '--task-id cannot be given together with a prompt or a file.')
  const token = settings.api_key.value ?? ''
  const execution_id = env.BATON_EXECUTION_ID
  if (!EXECUTION_TOKEN_PATTERN.test(token) || execution_id === undefined) {
    throw new CommandFailure(
      'usage',
      '--task-id is for workers: it needs WARP_API_KEY with the token of an execution, and BATON_EXECUTION_ID.',
    )
  }
  const { runExecution } = await import('../../runner/run.ts')
  const report = await runExecution({
    server: settings.server.value ?? '',
    token,
    execution_id,
    version: context.version,
    env,
    workspace: context.cwd,
    place: 'managed',
    signal,
  })
  return exitOf(context, report)
}

function exitOf(context: Context, report: ExitReport): number {
  switch (report.end) {
    case 'superseded':
      throw new CommandFailure('conflict', report.message)
    case 'refused':
      throw new CommandFailure('failed', report.message)
    case 'unreachable':
      throw new CommandFailure('unreachable', report.message)
    case 'finished':
      break
  }
  const { outcome } = report
  if (outcome.outcome === 'SUCCEEDED') return EXIT.ok
  if (outcome.outcome === 'CANCELLED') {
    context.out.note(paint.yellow('Cancelled.'))
    return context.signal.aborted ? EXIT.interrupted : EXIT.run_failed
  }
  const { error_code, message } = outcome.failure
  throw new CommandFailure(
    error_code === 'budget_exceeded' || error_code === 'insufficient_credits' ? 'budget' : 'run_failed',
    message,
  )
}

async function folderOf(context: Context, given: unknown): Promise<string> {
  const folder = resolve(context.cwd, typeof given === 'string' ? given : '.')
  const there = await stat(folder).catch(() => null)
  if (!there?.isDirectory()) throw new CommandFailure('usage', `${folder} is not a folder.`, 'Name another with --cwd.')
  return folder
}
