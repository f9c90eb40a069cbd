import { z } from 'zod'
import { type EditSecret, SecretType } from '../../contract/index.ts'
import { askLine, askYes } from '../ask.ts'
import type { CommandModule } from '../commands.ts'
import { clientOf } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { paint } from '../output.ts'
import {
  declarePlace,
  declareValue,
  findSecret,
  lastUse,
  PLACES,
  placeOf,
  readValue,
  showSecret,
  typeName,
} from '../secrets.ts'
import { ago, alignColumns, oneLine } from '../text.ts'

export const list: CommandModule = {
  declare: (command) => void command.option('-e, --environment <environment>', 'only those of this environment'),
  async run(context, { options }) {
    const query = typeof options.environment === 'string' ? { environment_id: options.environment } : {}
    const answer = await clientOf(context).secrets.list({ query, signal: context.signal })
    const { secrets } = answer
    const now = Date.now()
    await context.out.show(
      answer,
      () => {
        const rows = secrets.map((secret) => [
          oneLine(secret.name),
          typeName(secret.type),
          PLACES[secret.scope.type],
          ago(secret.updated_at, now),
          lastUse(secret, now),
          secret.available ? oneLine(secret.description ?? '') : paint.red('its master key is missing'),
        ])
        if (rows.length === 0) return []
        const heads = ['NAME', 'TYPE', 'FOR', 'CHANGED', 'LAST USED', '']
        return alignColumns([heads.map(paint.dim), ...rows], context.out.width)
      },
      () => secrets,
    )
    if (secrets.length === 0 && !context.out.machine)
      context.out.note('No secrets. Keep one with: baton secret create NAME')
  },
}

/** Whose value is one text. */
const TEXT_TYPES = ['raw-value', 'anthropic-api-key', 'openai-api-key']

export const create: CommandModule = {
  declare: (command) => {
    declarePlace(
      declareValue(command.argument('[name]', 'the variable that runs find it in'))
        .addOption(
          command.createOption('-t, --type <type>', TEXT_TYPES.join(', ')).choices(TEXT_TYPES).default('raw-value'),
        )
        .option('-d, --description <text>', 'what it is for'),
    ).addHelpText(
      'after',
      `
Examples:
  baton secret create NPM_TOKEN < token
  baton secret create NPM_TOKEN --value-file token --personal
  baton secret create claude api-key CLAUDE_KEY -f key`,
    )
  },
  async run(context, { args: [given], options }) {
    const name = given ?? (context.interactive ? (await askLine(context, 'Name of the secret:')).trim() : '')
    if (name === '')
      throw new CommandFailure('usage', 'A secret needs a name.', 'Such as: baton secret create NPM_TOKEN')
    const type = SecretType.parse(String(options.type).replaceAll('-', '_'))
    const value = await readValue(context, options, 'The value')
    const body = { name, type, value, ...placeOf(options) }
    await showSecret(context, await clientOf(context).secrets.create({ body, signal: context.signal }), 'Kept')
  },
}

const Changes = z.object({
  name: z.string().optional(),
  value: z.string().optional(),
  valueFile: z.string().optional(),
  description: z.string().optional(),
})

export const update: CommandModule = {
  declare: (command) => {
    declarePlace(
      declareValue(
        command
          .argument('<name>', 'its name or uid')
          .addOption(
            command
              .createOption('--value <value>', 'the value; others on this machine can see it: better pipe it in')
              .conflicts('valueFile'),
          ),
      )
        .option('-d, --description <text>', 'what it is for')
        .option('-n, --name <name>', 'another name'),
    )
  },
  async run(context, { args: [asked = ''], options }) {
    const o = Changes.parse(options)
    const { uid, type } = await findSecret(context, asked, options)
    const is_of_words = o.description !== undefined || o.name !== undefined
    const has_value = o.value !== undefined || o.valueFile !== undefined || !is_of_words
    if (has_value && type.startsWith('anthropic_bedrock_'))
      throw new CommandFailure(
        'usage',
        `A ${typeName(type)} has several parts.`,
        'Delete it, and keep it again with: baton secret create claude.',
      )
    const body: EditSecret = {
      ...(o.name === undefined ? {} : { name: o.name }),
      ...(o.description === undefined ? {} : { description: o.description || null }),
      ...(has_value ? { value: o.value ?? (await readValue(context, options, 'The value')) } : {}),
    }
    const params = { secret_uid: uid }
    await showSecret(
      context,
      await clientOf(context).secrets.update({ params, body, signal: context.signal }),
      'Changed',
    )
  },
}

export const remove: CommandModule = {
  declare: (command) =>
    void declarePlace(command.argument('<name>', 'its name or uid').option('--force', 'do not ask first')),
  async run(context, { args: [asked = ''], options }) {
    const secret = await findSecret(context, asked, options)
    if (options.force !== true) {
      if (!context.interactive) throw new CommandFailure('usage', 'Nobody can be asked here.', 'Say it with --force.')
      const question = `Delete the ${PLACES[secret.scope.type]} secret ${secret.name}?`
      if (!(await askYes(context, question))) throw new CommandFailure('interrupted', 'Nothing was deleted.')
    }
    await clientOf(context).secrets.delete({ params: { secret_uid: secret.uid }, signal: context.signal })
    await context.out.show({ uid: secret.uid, name: secret.name, deleted: true }, () => [
      `Deleted ${PLACES[secret.scope.type]} secret ${oneLine(secret.name)}.`,
    ])
  },
}

export const rotateKey: CommandModule = {
  declare: (command) =>
    void command
      .option('--no-make', 'make no new master key: go on where it broke off')
      .addHelpText(
        'after',
        '\nWhere the master keys are yours (BATON_SECRET_KEY), put the new one first, keep the old ones, start every server\n' +
          'again, and then run this. It may be repeated whenever it broke off.',
      ),
  async run(context, { options }) {
    const body = { make: options.make !== false }
    const answer = await clientOf(context).secrets.rotate({ body, signal: context.signal })
    await context.out.show(answer, () => [
      `Everything is locked with master key ${answer.key_id}${answer.made ? ', made just now' : ''} (${answer.rewrapped} changed).`,
      ...(answer.unused_keys.length === 0 ? [] : [`No longer used here: ${answer.unused_keys.join(', ')}.`]),
    ])
  },
}
