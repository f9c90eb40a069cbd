import { z } from 'zod'
import { type ApiKey, KeyScope, ROLES, Role } from '../../contract/index.ts'
import type { Client } from '../../sdk/client.ts'
import { askYes } from '../ask.ts'
import type { CommandModule } from '../commands.ts'
import { type Context, clientOf, type Given } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { pickNamed } from '../named.ts'
import { paint } from '../output.ts'
import { ago, alignColumns, oneLine, parseDuration } from '../text.ts'

/** What a list may be sorted by. */
const SORTS: Record<string, (key: ApiKey) => string> = {
  name: ({ name }) => name.toLowerCase(),
  'created-at': ({ created_at }) => created_at,
  'last-used-at': ({ last_used_at }) => last_used_at ?? '',
  // What never ends comes last.
  'expires-at': ({ expires_at }) => expires_at ?? '9999',
  scope: ({ scope }) => scope,
}

export const list: CommandModule = {
  declare: (command) => {
    command
      .addOption(command.createOption('--sort-by <field>', Object.keys(SORTS).join(', ')).choices(Object.keys(SORTS)))
      .addOption(command.createOption('--sort-order <order>', 'asc or desc').choices(['asc', 'desc']))
  },
  async run(context, { options }) {
    const answer = await clientOf(context).apiKeys.list({ signal: context.signal })
    const api_keys = [...answer.api_keys]
    const sorted = SORTS[String(options.sortBy)]
    if (sorted) api_keys.sort((a, b) => sorted(a).localeCompare(sorted(b)))
    if (options.sortOrder === 'desc') api_keys.reverse()
    const now = Date.now()
    await context.out.show(
      { ...answer, api_keys },
      () => {
        const rows = api_keys.map((key) => [
          key.uid,
          oneLine(key.name),
          key.preview,
          scopeOf(key),
          ago(key.created_at, now),
          key.last_used_at === null ? 'never' : ago(key.last_used_at, now),
          key.is_expired ? paint.red('has ended') : (key.expires_at ?? 'never'),
        ])
        if (rows.length === 0) return []
        const heads = ['UID', 'NAME', 'KEY', 'SCOPE', 'CREATED', 'LAST USED', 'ENDS']
        return alignColumns([heads.map(paint.dim), ...rows], context.out.width)
      },
      () => api_keys,
    )
  },
}

export const create: CommandModule = {
  declare: (command) => {
    command
      .argument('<name>', 'what it is for')
      .addOption(command.createOption('--agent <agent>', 'uid or name of the agent that it acts as').conflicts('scope'))
      .addOption(
        command
          .createOption('--scope <scope>', 'personal: as you; team: for the team alone; worker: opens workers alone')
          .choices(KeyScope.options.filter((scope) => scope !== 'agent')),
      )
      .addOption(command.createOption('--role <role>', 'at most this, though you may do more').choices(ROLES))
      .option('--expires-in <duration>', 'how long it stands, such as 12h or 30d')
      .option('--expires-at <time>', 'until when it stands, such as 2030-01-31T00:00:00Z')
      .option('--no-expiration', 'it stands until it is expired')
      .addHelpText(
        'after',
        `
One of the last three is needed. The key is printed this once, alone on stdout.

Examples:
  baton api-key create laptop --expires-in 90d
  baton api-key create ci --agent reviewer --no-expiration > key
  baton api-key create dashboard --scope team --role viewer --expires-at 2030-01-31T00:00:00Z`,
      )
  },
  async run(context, { args: [name = ''], options }) {
    const client = clientOf(context)
    const o = Options.parse(options)
    const agent_uid = o.agent === undefined ? undefined : await uidOf(context, client, o.agent)
    const body = {
      name,
      ...expiryOf(o),
      ...(agent_uid === undefined ? {} : { agent_uid }),
      ...(o.scope === undefined ? {} : { scope: o.scope }),
      ...(o.role === undefined ? {} : { role: o.role }),
    }
    const made = await client.apiKeys.create({ body, signal: context.signal })
    await context.out.show(made, () => [made.api_key])
    if (context.out.machine) return
    const until = made.key.expires_at === null ? 'until it is expired' : `until ${made.key.expires_at}`
    context.out.note(
      `This is key "${oneLine(name)}" (${scopeOf(made.key)}), which stands ${until}. It is not shown again.`,
    )
  },
}

export const expire: CommandModule = {
  declare: (command) => void command.argument('<key>', 'name or uid').option('--force', 'without asking on a terminal'),
  async run(context, given) {
    const client = clientOf(context)
    const key = await find(context, client, given)
    const { key: own } = await client.access.whoami({ signal: context.signal })
    const is_own = own?.uid === key.uid
    if (context.interactive && given.options.force !== true) {
      const what = is_own ? 'the very key that you are using' : `key "${oneLine(key.name)}" (${key.preview})`
      if (!(await askYes(context, `End ${what}? What uses it is refused from then on.`)))
        throw new CommandFailure('interrupted', 'Nothing was ended.')
    }
    const ended = await client.apiKeys.expire({ params: { api_key_uid: key.uid }, signal: context.signal })
    await context.out.show({ ...ended, expired: true }, () => [`Ended key ${oneLine(key.name)} (${key.preview}).`])
    if (is_own && !context.out.machine)
      context.out.note('It was the key that you used. Log in with another: baton login.')
  },
}

const Options = z.object({
  agent: z.string().optional(),
  scope: KeyScope.optional(),
  role: Role.optional(),
  expiresIn: z.string().optional(),
  expiresAt: z.string().optional(),
  expiration: z.boolean().default(true),
})

function expiryOf({ expiresIn, expiresAt, expiration }: z.infer<typeof Options>) {
  const given = [expiresIn !== undefined, expiresAt !== undefined, !expiration].filter(Boolean).length
  if (given !== 1) {
    const what = given === 0 ? 'Say when the key ends.' : 'When the key ends is said more than once.'
    throw new CommandFailure('usage', what, 'Give one of --expires-in, --expires-at and --no-expiration.')
  }
  if (!expiration) return { expires_at: null }
  if (expiresAt !== undefined) return { expires_at: timeOf(expiresAt) }
  const ms = parseDuration(expiresIn ?? '')
  if (ms === null || ms < 1000)
    throw new CommandFailure('usage', `--expires-in "${expiresIn}" is no duration.`, 'Write it as 12h or 30d.')
  return { expires_in_seconds: Math.round(ms / 1000) }
}

function timeOf(text: string): string {
  if (z.iso.datetime({ offset: true }).safeParse(text).success) return text
  throw new CommandFailure('usage', `--expires-at "${text}" is no time.`, 'Write it as 2030-01-31T00:00:00Z.')
}

async function uidOf(context: Context, client: Client, asked: string): Promise<string> {
  const { agents } = await client.identities.list({ signal: context.signal })
  return pickNamed('agent', agents, asked, ({ name }) => name).uid
}

async function find(context: Context, client: Client, { args: [asked = ''] }: Given): Promise<ApiKey> {
  const { api_keys } = await client.apiKeys.list({ signal: context.signal })
  // Of several that have one name, those that have ended by themselves are not meant.
  const is_named = ({ name }: ApiKey) => name.toLowerCase() === asked.trim().toLowerCase()
  const living = api_keys.filter((key) => key.uid === asked || (is_named(key) && !key.is_expired))
  return pickNamed('API key', living.length > 0 ? living : api_keys, asked, ({ name }) => name)
}

function scopeOf({ scope, role, agent }: ApiKey): string {
  const of = agent === undefined ? scope : `agent ${oneLine(agent.name)}`
  return role === null ? of : `${of}, ${role}`
}
