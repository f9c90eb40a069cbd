/** What a harness says from inside its sandbox, for harnesses and plugins that cannot say it over MCP. */
import type { Command } from 'commander'
import { z } from 'zod'
import { FinishTask, ReportArtifact, ReportShutdown } from '../../contract/index.ts'
import type { Client } from '../../sdk/client.ts'
import { actingClient, ownRun } from '../acting.ts'
import { fileToKeep } from '../artifacts.ts'
import type { CommandModule } from '../commands.ts'
import type { Context, Given } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { checkKeys } from '../keys.ts'

type Verb = {
  declare(command: Command): void
  say(client: Client, options: Record<string, unknown>, context: Context, run_id: string): Promise<void>
}

const verb = ({ declare, say }: Verb): CommandModule => ({
  declare: (command) => declare(command.option('--run-id <run>', 'the run to speak for; OZ_RUN_ID where absent')),
  async run(context: Context, given: Given): Promise<void> {
    const run_id = z.string().optional().parse(given.options.runId) ?? ownRun(context)
    if (run_id === undefined || run_id === '')
      throw new CommandFailure(
        'usage',
        'It is not known for which run this speaks.',
        'Inside a run OZ_RUN_ID says it; elsewhere give --run-id.',
      )
    await say(actingClient(context, run_id), given.options, context, run_id)
  },
})

export const ping = verb({
  declare: () => {},
  async say(client, _, { out, signal }, run_id) {
    const caller = await client.access.whoami({ signal })
    if (caller.run_id !== run_id.toLowerCase())
      throw new CommandFailure(
        'auth',
        `The key in use is not that of run ${run_id}.`,
        'Inside a run WARP_API_KEY holds the right one.',
      )
    await out.show({ run_id: caller.run_id, ok: true }, () => [`The server knows run ${run_id}.`])
  },
})

export const pullRequest = verb({
  declare: (command) =>
    void command
      .requiredOption('--url <url>', 'address of the pull request')
      .requiredOption('--branch <name>', 'branch that it wants to merge'),
  say: ({ harnessSupport }, { url, branch }, context) =>
    report(context, harnessSupport, { artifact_type: 'PULL_REQUEST', data: { url, branch } }),
})

export const file = verb({
  declare: (command) =>
    void command
      .requiredOption('--file <file>', 'the file; at most 1 MiB')
      .option('--title <title>', 'its title')
      .option('--description <text>', 'what it is'),
  say: async ({ harnessSupport }, { file: path, title, description }, context) =>
    report(context, harnessSupport, {
      artifact_type: 'FILE',
      data: { ...(await fileToKeep(context, String(path))), title, description },
    }),
})

export const externalReference = verb({
  declare: (command) =>
    void command
      .requiredOption('--url <url>', 'its address')
      .requiredOption('--reference-type <type>', 'what it is, such as issue or deployment')
      .option('--title <title>', 'its title')
      .option('--metadata <json>', 'more about it, as a JSON object'),
  say: ({ harnessSupport }, options, context) =>
    report(context, harnessSupport, {
      artifact_type: 'EXTERNAL_REFERENCE',
      data: {
        reference_type: options.referenceType,
        url: options.url,
        ...(options.title === undefined ? {} : { title: options.title }),
        ...(options.metadata === undefined ? {} : { metadata: objectOf(String(options.metadata)) }),
      },
    }),
})

export const notifyUser = verb({
  declare: (command) => void command.requiredOption('--message <markdown>', 'what the person is to know'),
  async say({ harnessSupport }, { message }, { out, signal }) {
    await harnessSupport.notifyUser({ body: { message: String(message) }, signal })
    await out.show({ notified: true }, () => ['Told.'])
  },
})

const STATUSES = ['success', 'failure']

export const finishTask = verb({
  declare: (command) =>
    void command
      .addOption(command.createOption('--status <status>', 'how the work went').choices(STATUSES).makeOptionMandatory())
      .requiredOption('--summary <text>', 'what was done, or why it was not'),
  async say({ harnessSupport }, { status, summary }, { out, signal }) {
    const body = checked(FinishTask, { success: status === 'success', summary })
    await harnessSupport.finishTask({ body, signal })
    await out.show({ success: body.success }, () => ['Noted. The run ends so when this turn ends.'])
  },
})

export const reportShutdown = verb({
  declare: (command) =>
    void command
      .option('--error-category <category>', 'what kind of error made it stop')
      .option('--error-message <text>', 'and what happened'),
  async say({ harnessSupport }, { errorCategory: category, errorMessage: message }, { out, signal }) {
    if ((category === undefined) !== (message === undefined))
      throw new CommandFailure('usage', 'Give both --error-category and --error-message, or neither.')
    const body = checked(ReportShutdown, category === undefined ? {} : { error: { category, message } })
    await harnessSupport.reportShutdown({ body, signal })
    await out.show({ reported: true }, () => ['Reported.'])
  },
})

async function report(
  { out, signal }: Context,
  harnessSupport: Client['harnessSupport'],
  artifact: unknown,
): Promise<void> {
  const answer = await harnessSupport.reportArtifact({ body: checked(ReportArtifact, artifact), signal })
  await out.show(answer, () => [`Reported as artifact ${answer.artifact_uid}.`])
}

function checked<T extends z.ZodType>(schema: T, body: unknown): z.output<T> {
  const parsed = schema.safeParse(body)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const option = `--${String(issue?.path.at(-1) ?? 'option').replaceAll('_', '-')}`
  throw new CommandFailure('usage', `${option} is not as it should be: ${issue?.message ?? 'see --help'}.`)
}

function objectOf(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return checkKeys(value, '--metadata')
  } catch (error) {
    // What was no object is said below.
    if (error instanceof CommandFailure) throw error
  }
  throw new CommandFailure('usage', '--metadata is not a JSON object.', 'Write it as {"name": "value"}.')
}
