import type { Command } from 'commander'
import { API_PREFIX, Batch, batchRoutes, TaskState } from '../../contract/index.ts'
import { fillPath } from '../../sdk/client.ts'
import { adviceOn, batchLines, everyTask, isOver, taskTable } from '../batches.ts'
import { bodyOf, type Context, clientOf, type Given, webAddress } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { collect } from '../named.ts'

export function declare(command: Command): void {
  command
    .argument('<batch>', 'id of the batch')
    .option('--tasks', 'its tasks alone; as JSON these instead of the batch')
    .addOption(
      command
        .createOption('--state <state>', 'its tasks of this state alone; may be repeated')
        .choices(TaskState.options)
        .argParser(collect),
    )
    .option('--ids', "the ids of the tasks' runs, too")
}

export async function run(context: Context, { args, options }: Given): Promise<void> {
  const { out, signal } = context
  const [batch_id = ''] = args
  const client = clientOf(context)
  const state = statesOf(options.state)
  const look = { now: Date.now(), width: out.width, ids: options.ids === true }
  if (options.tasks === true || state !== undefined) {
    const tasks = await everyTask(client, batch_id, { signal, ...(state === undefined ? {} : { state }) })
    await out.show(
      { tasks, has_more: false },
      () => (tasks.length === 0 ? [] : taskTable(tasks, look)),
      () => tasks,
    )
    if (tasks.length === 0) out.note(`No task of this batch is ${state?.join(' or ')}.`)
    return
  }
  const body = await bodyOf(
    await client.raw('GET', API_PREFIX + fillPath(batchRoutes.get.path, { batch_id }), { signal }),
  )
  if (out.machine) return out.show(body, () => [])
  const batch = Batch.parse(body)
  const tasks = await everyTask(client, batch_id, { signal })
  const lines = [...batchLines(batch, webAddress(context, batch_id), look.now), '', ...taskTable(tasks, look)]
  await out.show(body, () => lines)
  const failed = tasks.filter((task) => task.state === 'failed')
  if (isOver(batch)) for (const line of adviceOn(batch, failed)) out.note(line)
}

function statesOf(given: unknown): TaskState[] | undefined {
  const states = TaskState.array().optional().safeParse(given)
  if (states.success) return states.data
  throw new CommandFailure('usage', `--state is ${TaskState.options.join(', ')}.`)
}
