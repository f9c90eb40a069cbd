/** The body of a batch from the options of `batch run`. */
import { basename } from 'node:path'
import type { Command } from 'commander'
import { z } from 'zod'
import { batchRoutes, type CreateBatch, Fault, RetryOn } from '../contract/index.ts'
import { minutesOf, readText } from './asking.ts'
import { isDocument, type ReadBatch, readDocument, readLines, readPrompts, refusal, wordsOf } from './batch-file.ts'
import { type Context, readAll } from './context.ts'
import { CommandFailure } from './exits.ts'
import { collect } from './named.ts'
import { repositoryOf } from './repositories.ts'
import { renderTemplate } from './templates.ts'

export function declareBatch(command: Command): Command {
  return command
    .argument('[file]', 'YAML or JSON with the tasks; - reads it from stdin, or one task a line')
    .option('-t, --task <prompt>', 'a task, instead of a file; may be repeated', collect)
    .option('--template <name>', 'a pattern that is known to work, instead of a file; see baton template list')
    .option('--set <name=value>', 'a value for the template; may be repeated', collect)
    .option('--title <title>', 'title of the batch')
    .option('-c, --concurrency <n>', 'so many tasks are at work at a time; 4 where nobody says')
    .option('--stop-on-failure', 'the first task that fails for good keeps the others from starting')
    .option('--base-prompt <text>', 'put before each prompt')
    .optionsGroup('Options for tasks that do not say it themselves:')
    .option('--harness <name>', 'oz (baton), claude, codex, gemini, opencode, command, or one that the worker knows')
    .option('--model <id>', 'model, such as anthropic/claude-opus-4-5; auto where absent')
    .option('-e, --environment <environment>', 'uid or name of the environment to work in')
    .option('--repo <url>', 'repository to clone, URL#ref or a path; may be repeated', collect)
    .option('--host <worker>', 'the worker that is to take them')
    .option('--time-limit <duration>', 'the longest that one try may take')
    .option('--max-retries <n>', 'tries after the first, with growing pauses between them; 2 where nobody says')
    .addOption(
      command
        .createOption('--retry <which>', 'failures that are tried again: retryable, such as a busy provider, or all')
        .choices(RetryOn.options),
    )
    .optionsGroup('Options:')
}

const whole = (flag: string, least: number, most: number) => {
  const range = `${flag} is a whole number from ${least} to ${most}.`
  return z.coerce.number(range).int(range).min(least, range).max(most, range).optional()
}

const Options = z.object({
  task: z.array(z.string()).optional(),
  template: z.string().optional(),
  set: z.array(z.string()).default([]),
  title: z.string().max(512, '--title has at most 512 characters.').optional(),
  concurrency: whole('--concurrency', 1, 1000),
  stopOnFailure: z.boolean().optional(),
  basePrompt: z.string().optional(),
  harness: z.string().optional(),
  model: z.string().optional(),
  environment: z.string().optional(),
  repo: z.array(z.string()).default([]),
  host: z.string().optional(),
  timeLimit: z.string().optional(),
  maxRetries: whole('--max-retries', 0, 19),
  retry: RetryOn.optional(),
})
type Options = z.infer<typeof Options>

export async function askedBatch(
  context: Context,
  options: Record<string, unknown>,
  argument: string | undefined,
): Promise<ReadBatch> {
  const given = Options.safeParse(options)
  if (!given.success) throw new CommandFailure('usage', given.error.issues[0]?.message ?? 'Wrong option.')
  const o = given.data
  const read = await readTasks(context, o, argument)
  const { batch } = read
  return {
    ...read,
    batch: {
      ...batch,
      ...(o.title === undefined ? {} : { title: o.title }),
      ...(o.concurrency === undefined ? {} : { concurrency: o.concurrency }),
      ...(o.basePrompt === undefined ? {} : { base_prompt: o.basePrompt }),
      ...(o.stopOnFailure === true ? { stop_on_failure: true } : {}),
      defaults: defaultsOf(context, o, batch.defaults ?? {}),
    },
  }
}

/** From the file, the argument `-` or a pipe, `--task` or a template; exactly one of them. */
async function readTasks(context: Context, o: Options, file: string | undefined): Promise<ReadBatch> {
  const { task, template } = o
  if ([file, task, template].filter((one) => one !== undefined).length > 1)
    throw new CommandFailure('usage', 'The tasks are given more than once.', 'Give a file, or --task, or --template.')
  if (o.set.length > 0 && template === undefined)
    throw new CommandFailure('usage', '--set gives values to a template.', 'Name one with --template.')
  if (task !== undefined) return readPrompts(task)
  if (template !== undefined) return fromTemplate(context, template, o.set)
  if (file !== undefined && file !== '-') return readDocument(await readText(context, file, 'The file'), basename(file))
  if (file === undefined && context.stdin.isTTY === true)
    throw new CommandFailure(
      'usage',
      'There are no tasks.',
      'Give a YAML or JSON file, --task "what to do" for each, --template NAME, or pipe one task a line.',
    )
  const text = await readAll(context.stdin, batchRoutes.create.body_bytes_max ?? 0, 'What is on stdin')
  return isDocument(text) ? readDocument(text, 'stdin') : readLines(text, 'stdin')
}

async function fromTemplate(context: Context, name: string, sets: string[]): Promise<ReadBatch> {
  const rendered = await renderTemplate(context, name, sets)
  if (rendered.kind === 'batch') return { name, batch: rendered.batch, placeOf: () => `template ${name}` }
  throw new CommandFailure(
    'usage',
    `Template "${name}" is for one run.`,
    `Start it with: baton agent run-cloud --template ${name}`,
  )
}

type Defaults = NonNullable<CreateBatch['defaults']>

/** Options go before the defaults that were read, and both before the settings of this command line. */
function defaultsOf({ cwd, settings }: Context, o: Options, read: Defaults): Defaults {
  const { config = {} } = read
  const harness = o.harness ?? read.harness ?? (config.harness ? undefined : settings.harness.value)
  const model_id = o.model ?? read.model_id ?? (config.model_id ? undefined : settings.model.value)
  const host = o.host ?? read.worker_host ?? (config.worker_host ? undefined : settings.worker_host.value)
  const timeout_minutes = minutesOf(o.timeLimit)
  const { setup_commands = [], variables = {} } = config.environment ?? {}
  const repositories = o.repo.map((repo) => repositoryOf(cwd, repo))
  return {
    ...read,
    ...(harness === undefined ? {} : { harness }),
    ...(model_id === undefined ? {} : { model_id }),
    ...(host === undefined ? {} : { worker_host: host }),
    ...(o.environment === undefined ? {} : { environment: o.environment }),
    ...(timeout_minutes === undefined ? {} : { timeout_minutes }),
    ...(o.maxRetries === undefined ? {} : { max_retries: o.maxRetries }),
    ...(o.retry === undefined ? {} : { retry: o.retry }),
    ...(repositories.length === 0
      ? {}
      : { config: { ...config, environment: { repositories, setup_commands, variables } } }),
  }
}

/** What the server says is wrong with the tasks, with their places in what was read. */
export function placedFault(error: unknown, { name, batch, placeOf }: ReadBatch): unknown {
  const errors = error instanceof Fault && error.code === 'invalid_request' ? (error.details.errors ?? []) : []
  const inside = errors.filter(({ pointer }) => /^\/(tasks\/|defaults)/.test(pointer))
  if (inside.length === 0) return error
  const wrongs = inside.map(({ pointer, detail }) => {
    const path = pointer
      .split('/')
      .slice(1)
      .map((part) => (/^\d+$/.test(part) ? Number(part) : part))
    const words = wordsOf(path[0] === 'defaults' ? ['defaults'] : path.slice(0, 2), batch.tasks)
    return { pointer, where: [placeOf(path), ...words].join(': '), detail: withoutTask(detail) }
  })
  return refusal(name, wrongs)
}

/** The task, or that it is the defaults, stands before it already. */
const withoutTask = (detail: string): string =>
  detail.replace(/^(Task "(\\.|[^"\\])*"|The defaults): /, '').replace(/^Task (\d+|"(\\.|[^"\\])*") /, 'It ')
