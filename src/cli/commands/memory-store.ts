import { z } from 'zod'
import type { MemoryStore } from '../../contract/index.ts'
import { askYes } from '../ask.ts'
import type { CommandModule } from '../commands.ts'
import { clientOf } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { paint } from '../output.ts'
import { declareScope, scopeOf } from '../scope.ts'
import { ago, alignColumns, oneLine } from '../text.ts'

const OWNERS: Record<MemoryStore['owner_type'], string> = { team: 'team', user: 'personal', service_account: 'agent' }

const lineOf = (store: MemoryStore): string =>
  `${store.uid}  ${paint.dim(OWNERS[store.owner_type])}  ${oneLine(store.description ?? '')}`.trimEnd()

const Options = z.object({ description: z.string().optional(), force: z.boolean().optional() })

export const list: CommandModule = {
  declare: () => {},
  async run(context) {
    const answer = await clientOf(context).memory.stores({ signal: context.signal })
    const stores = answer.memory_stores
    const now = Date.now()
    await context.out.show(
      answer,
      () => {
        const rows = stores.map((one) => [
          one.uid,
          OWNERS[one.owner_type],
          ago(one.updated_at, now),
          oneLine(one.description ?? ''),
        ])
        return rows.length === 0
          ? []
          : alignColumns([['UID', 'OF', 'CHANGED', 'FOR'].map(paint.dim), ...rows], context.out.width)
      },
      () => stores,
    )
    if (stores.length === 0 && !context.out.machine)
      context.out.note('No memory stores. Make one with: baton memory-store create -d "what it is for"')
  },
}

export const create: CommandModule = {
  declare: (command) =>
    void declareScope(command.option('-d, --description <text>', 'what it is for, as its agents are told')),
  async run(context, { options }) {
    const { description } = Options.parse(options)
    const body = { ...(description === undefined ? {} : { description }), ...scopeOf(options) }
    const made = await clientOf(context).memory.createStore({ body, signal: context.signal })
    await context.out.show(made, () => [`Created ${lineOf(made)}`])
  },
}

export const get: CommandModule = {
  declare: (command) => void command.argument('<store>', 'its uid'),
  async run(context, { args: [store_uid = ''] }) {
    const store = await clientOf(context).memory.store({ params: { store_uid }, signal: context.signal })
    await context.out.show(store, () => [lineOf(store)])
  },
}

export const update: CommandModule = {
  declare: (command) =>
    void command
      .argument('<store>', 'its uid')
      .option('-d, --description <text>', 'what it is for; without it, nothing is said any more'),
  async run(context, { args: [store_uid = ''], options }) {
    const { description = null } = Options.parse(options)
    const asked = { params: { store_uid }, body: { description }, signal: context.signal }
    const store = await clientOf(context).memory.updateStore(asked)
    await context.out.show(store, () => [`Changed ${lineOf(store)}`])
  },
}

export const agents: CommandModule = {
  declare: (command) => void command.argument('<store>', 'its uid'),
  async run(context, { args: [store_uid = ''] }) {
    const answer = await clientOf(context).memory.agents({ params: { store_uid }, signal: context.signal })
    await context.out.show(
      answer,
      () =>
        alignColumns(
          answer.agents.map(({ uid, name, access, instructions }) => [
            uid,
            oneLine(name),
            access === 'read_write' ? 'reads and writes' : 'reads',
            oneLine(instructions),
          ]),
          context.out.width,
        ),
      () => answer.agents,
    )
  },
}

export const remove: CommandModule = {
  declare: (command) => void command.argument('<store>', 'its uid').option('--force', 'do not ask first'),
  async run(context, { args: [store_uid = ''], options }) {
    if (options.force !== true) {
      if (!context.interactive) throw new CommandFailure('usage', 'Nobody can be asked here.', 'Say it with --force.')
      if (!(await askYes(context, `Delete the memory store ${store_uid}, and all that it holds?`)))
        throw new CommandFailure('interrupted', 'Nothing was deleted.')
    }
    await clientOf(context).memory.deleteStore({ params: { store_uid }, signal: context.signal })
    await context.out.show({ uid: store_uid, deleted: true }, () => [`Deleted memory store ${store_uid}.`])
  },
}
