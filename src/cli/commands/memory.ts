import type { Command } from 'commander'
import { z } from 'zod'
import type { CommandModule } from '../commands.ts'
import { clientOf } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { paint } from '../output.ts'
import { ago, alignColumns, oneLine } from '../text.ts'

const Options = z.object({
  store: z.string().optional(),
  content: z.string().default(''),
  reason: z.string().optional(),
  version: z.coerce.number().optional(),
})

const declareWords = (command: Command): Command =>
  command.requiredOption('-c, --content <text>', 'what is to be remembered').option('-r, --reason <text>', 'why')

/** Where a memory is named by itself. */
const declareMemory = (command: Command): Command =>
  command.argument('<memory>', 'its id').requiredOption('-s, --store <store>', 'the uid of its store')

function wordsOf(options: Record<string, unknown>) {
  const { content, reason, version } = Options.parse(options)
  return { content, ...(reason === undefined ? {} : { reason }), ...(version === undefined ? {} : { version }) }
}

const pathOf = (memory_id: string, options: Record<string, unknown>) => ({
  params: { store_uid: Options.parse({ store: options.store }).store ?? '', memory_id },
})

export const list: CommandModule = {
  declare: (command) => void command.argument('<store>', 'the uid of a memory store'),
  async run(context, { args: [store_uid = ''] }) {
    const answer = await clientOf(context).memory.list({ params: { store_uid }, signal: context.signal })
    const now = Date.now()
    await context.out.show(
      answer,
      () => {
        const rows = answer.memories.map((one) => [
          one.uid,
          ago(one.updated_at, now),
          one.is_tombstoned ? paint.dim('deleted') : one.source === 'AGENT' ? 'an agent' : 'a person',
          oneLine(one.content),
        ])
        return rows.length === 0
          ? []
          : alignColumns([['ID', 'CHANGED', 'OF', 'SAYS'].map(paint.dim), ...rows], context.out.width)
      },
      () => answer.memories,
    )
    if (answer.memories.length === 0 && !context.out.machine) context.out.note('It holds nothing yet.')
  },
}

export const create: CommandModule = {
  declare: (command) =>
    void declareWords(command.argument('<store>', 'the uid of a memory store')).option(
      '--version <number>',
      'a new memory begins with version 1',
    ),
  async run(context, { args: [store_uid = ''], options }) {
    const { version, ...words } = wordsOf(options)
    if (version !== undefined && version !== 1)
      throw new CommandFailure('usage', 'A new memory begins with version 1.', 'Leave out --version.')
    const asked = { params: { store_uid }, body: { ...words, source: 'MANUAL' as const }, signal: context.signal }
    const made = await clientOf(context).memory.create(asked)
    await context.out.show(made, () => [`Added memory ${made.memory_id}.`])
  },
}

export const update: CommandModule = {
  declare: (command) =>
    void declareWords(declareMemory(command)).option(
      '--version <number>',
      'the version that you have read: refused where another has come since',
    ),
  async run(context, { args: [memory_id = ''], options }) {
    const asked = { ...pathOf(memory_id, options), body: wordsOf(options), signal: context.signal }
    const changed = await clientOf(context).memory.update(asked)
    await context.out.show(changed, () => [`Changed memory ${changed.memory_id}.`])
  },
}

export const remove: CommandModule = {
  declare: (command) => void declareMemory(command),
  async run(context, { args: [memory_id = ''], options }) {
    await clientOf(context).memory.delete({ ...pathOf(memory_id, options), signal: context.signal })
    await context.out.show({ uid: memory_id, deleted: true }, () => [`Deleted memory ${memory_id}.`])
  },
}

export const versions: CommandModule = {
  declare: (command) => void declareMemory(command),
  async run(context, { args: [memory_id = ''], options }) {
    const answer = await clientOf(context).memory.versions({ ...pathOf(memory_id, options), signal: context.signal })
    const now = Date.now()
    await context.out.show(
      answer,
      () =>
        alignColumns(
          answer.versions.map(({ version, content, reason, created_at }) => [
            String(version),
            ago(created_at, now),
            oneLine(content),
            paint.dim(oneLine(reason ?? '')),
          ]),
          context.out.width,
        ),
      () => answer.versions,
    )
  },
}
