import { z } from 'zod'
import { type Joined, ROLES, Role } from '../../contract/index.ts'
import { connect } from '../../sdk/client.ts'
import { askLine } from '../ask.ts'
import type { CommandModule } from '../commands.ts'
import { type Context, clientOf } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { findMember } from '../members.ts'
import { paint } from '../output.ts'
import { sameServer, writeConfig } from '../settings.ts'
import { ago, alignColumns, oneLine, parseDuration, plural } from '../text.ts'

export const list: CommandModule = {
  declare: () => {},
  async run(context) {
    const answer = await clientOf(context).teams.list({ signal: context.signal })
    await context.out.show(
      answer,
      () => {
        const rows = answer.teams.map(({ team_id, name, role, members, is_current }) => [
          team_id,
          oneLine(name),
          role,
          plural(members, 'member'),
          is_current ? 'this key acts for it' : '',
        ])
        return alignColumns([['TEAM', 'NAME', 'YOU ARE', '', ''].map(paint.dim), ...rows], context.out.width)
      },
      () => answer.teams,
    )
  },
}

export const create: CommandModule = {
  declare: (command) => void command.argument('<name>', 'its name'),
  async run(context, { args: [name = ''] }) {
    const made = await clientOf(context).teams.create({ body: { name }, signal: context.signal })
    const profile = await keepKey(context, context.settings.server.value ?? '', made)
    await showJoined(context, made, profile, 'Made')
  },
}

export const rename: CommandModule = {
  declare: (command) => void command.argument('<name>', 'its new name'),
  async run(context, { args: [name = ''] }) {
    const client = clientOf(context)
    const { team } = await client.access.whoami({ signal: context.signal })
    const params = { team_id: team.team_id }
    const renamed = await client.teams.update({ params, body: { name }, signal: context.signal })
    await context.out.show(renamed, () => [`Team ${oneLine(team.name)} is now ${oneLine(renamed.name)}.`])
  },
}

export const members: CommandModule = {
  declare: () => {},
  async run(context) {
    const answer = await clientOf(context).teams.members({ signal: context.signal })
    const now = Date.now()
    await context.out.show(
      answer,
      () => {
        const rows = answer.members.map(({ user_id, display_name, email, role, last_used_at }) => [
          user_id,
          oneLine(display_name),
          oneLine(email ?? ''),
          role,
          last_used_at === null ? 'never' : ago(last_used_at, now),
        ])
        return alignColumns([['USER', 'NAME', 'E-MAIL', 'ROLE', 'SEEN'].map(paint.dim), ...rows], context.out.width)
      },
      () => answer.members,
    )
  },
}

export const role: CommandModule = {
  declare: (command) =>
    void command
      .argument('<member>', 'user id, e-mail address or name')
      .addArgument(command.createArgument('<role>', 'what they are to be').choices(ROLES)),
  async run(context, { args: [asked = '', role = ''] }) {
    const { user_id } = await findMember(context, asked)
    const body = { role: Role.parse(role) }
    const changed = await clientOf(context).teams.changeRole({ params: { user_id }, body, signal: context.signal })
    await context.out.show(changed, () => [`${oneLine(changed.display_name)} is now ${changed.role} of the team.`])
  },
}

export const invite: CommandModule = {
  declare: (command) => {
    command
      .addOption(command.createOption('--role <role>', 'what they are to be; member without it').choices(ROLES))
      .option('--email <address>', 'theirs; nothing is sent there')
      .option('--expires-in <duration>', 'how long it can be taken; 7d without it')
      .addHelpText('after', '\nThe link is printed this once. One person can take it: baton team join LINK.')
  },
  async run(context, { options }) {
    const o = Inviting.parse(options)
    const ms = o.expiresIn === undefined ? undefined : parseDuration(o.expiresIn)
    if (ms === null)
      throw new CommandFailure('usage', `--expires-in "${o.expiresIn}" is no duration.`, 'Write it as 2d.')
    const body = {
      ...(o.role === undefined ? {} : { role: o.role }),
      ...(o.email === undefined ? {} : { email: o.email }),
      ...(ms === undefined ? {} : { expires_in_seconds: Math.round(ms / 1000) }),
    }
    const made = await clientOf(context).teams.invite({ body, signal: context.signal })
    await context.out.show(made, () => [made.link])
    if (!context.out.machine)
      context.out.note(`Send this link to one person, who joins as ${made.role} until ${made.expires_at}.`)
  },
}

export const invites: CommandModule = {
  declare: () => {},
  async run(context) {
    const answer = await clientOf(context).teams.invites({ signal: context.signal })
    await context.out.show(
      answer,
      () => {
        const rows = answer.invites.map(({ invite_id, role, email, expires_at, creator }) => [
          invite_id,
          role,
          oneLine(email ?? ''),
          oneLine(creator.display_name ?? ''),
          expires_at,
        ])
        if (rows.length === 0) return []
        return alignColumns([['INVITATION', 'ROLE', 'E-MAIL', 'BY', 'ENDS'].map(paint.dim), ...rows], context.out.width)
      },
      () => answer.invites,
    )
    if (answer.invites.length === 0 && !context.out.machine) context.out.note('No invitation is open.')
  },
}

export const revoke: CommandModule = {
  declare: (command) => void command.argument('<invitation>', 'its id; see baton team invites'),
  async run(context, { args: [invite_id = ''] }) {
    await clientOf(context).teams.revokeInvite({ params: { invite_id }, signal: context.signal })
    await context.out.show({ invite_id, revoked: true }, () => ['Nobody can take this invitation any more.'])
  },
}

export const join: CommandModule = {
  declare: (command) => {
    command
      .argument('<invitation>', 'the link, or the code in it')
      .option('--name <name>', 'what you are called, where you are new')
      .option('--new', 'as somebody new, though a key of yours is known')
      .addHelpText(
        'after',
        '\nThe key for the team is kept in the configuration file, as a profile of its own if you have one.',
      )
  },
  async run(context, { args: [invitation = ''], options }) {
    const o = Joining.parse(options)
    const { settings, signal } = context
    const current = settings.server.value ?? ''
    const server = URL.canParse(invitation) ? new URL(invitation).origin : current
    const token = o.new !== true && sameServer(server, current) ? settings.api_key.value : undefined
    const name = token === undefined ? (o.name ?? (await askName(context))) : undefined
    const body = { code: invitation, ...(name === undefined ? {} : { display_name: name }) }
    const made = await connect({ server, token }).teams.join({ body, signal })
    await showJoined(context, made, await keepKey(context, server, made), 'Joined')
  },
}

const Inviting = z.object({
  role: Role.optional(),
  email: z.string().optional(),
  expiresIn: z.string().optional(),
})
const Joining = z.object({ name: z.string().optional(), new: z.boolean().optional() })

async function askName(context: Context): Promise<string> {
  const name = context.interactive ? (await askLine(context, 'What are you called?')).trim() : ''
  if (name !== '') return name
  throw new CommandFailure('usage', 'You are new to this server.', 'Say what you are called with --name.')
}

/** In the profile that was named, else in one of the team's name; the first of all becomes the one in force. */
async function keepKey(context: Context, server: string, { api_key, team }: Joined): Promise<string> {
  const { config, config_path, profile } = context.settings
  const is_first = Object.keys(config.profiles).length === 0
  const named = profile.from === '--config-profile' ? profile.value : undefined
  const name = named ?? (is_first ? 'default' : freeName(config.profiles, team.name))
  config.profiles[name] = { ...config.profiles[name], server, ...(api_key === undefined ? {} : { api_key }) }
  if (is_first) config.current_profile = name
  await writeConfig(config_path, config)
  return name
}

function freeName(taken: Record<string, unknown>, team: string): string {
  const plain =
    team
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, '-')
      .replace(/^-|-$/g, '') || 'team'
  for (let n = 1; ; n++) {
    const name = n === 1 ? plain : `${plain}-${n}`
    if (!(name in taken)) return name
  }
}

function showJoined(context: Context, made: Joined, profile: string, what: string): Promise<void> {
  const { api_key: _, ...shown } = made
  return context.out.show({ ...shown, profile }, () => [
    `${what} team ${oneLine(made.team.name)} as ${made.role}, ${oneLine(made.user.display_name)} (profile ${profile}).`,
    ...(context.settings.config.current_profile === profile
      ? []
      : [`Commands act for it with --config-profile ${profile}.`]),
  ])
}
