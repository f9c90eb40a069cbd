import { type DeletedTeam, type Departure, Role, type TeamContents } from '../../contract/index.ts'
import { connect } from '../../sdk/client.ts'
import { askLine, askYes } from '../ask.ts'
import type { CommandModule } from '../commands.ts'
import { clientOf } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { findMember } from '../members.ts'
import { oneLine, plural } from '../text.ts'

export const remove: CommandModule = {
  declare: (command) =>
    void command
      .argument('<member>', 'user id, e-mail address or name')
      .option('--force', 'without asking on a terminal'),
  async run(context, { args: [asked = ''], options }) {
    const { user_id, display_name } = await findMember(context, asked)
    const who = oneLine(display_name)
    if (context.interactive && options.force !== true) {
      const question =
        `Remove ${who}? All keys that they made for the team end, their personal runs are cancelled, and their ` +
        'schedules stand still until an admin takes them over.'
      if (!(await askYes(context, question))) throw new CommandFailure('interrupted', 'Nobody was removed.')
    }
    const removed = await clientOf(context).teams.removeMember({ params: { user_id }, signal: context.signal })
    await context.out.show({ user_id, ...removed }, () => [
      `Removed ${who}; ${plural(removed.cancelled_runs, 'personal run')} cancelled.`,
      ...endedLines(removed),
    ])
  },
}

export const leave: CommandModule = {
  declare: (command) =>
    void command
      .option('--dry-run', 'only say what would end')
      .option('--force', 'without asking on a terminal')
      .addHelpText('after', '\nThe last owner cannot leave: see baton team transfer and baton team delete.'),
  async run(context, { options }) {
    const client = clientOf(context)
    const { out, signal } = context
    const { team } = await client.access.whoami({ signal })
    const params = { team_id: team.team_id }
    const asks = options.dryRun === true || (context.interactive && options.force !== true)
    const told = asks ? await client.teams.leave({ params, body: { dry_run: true }, signal }) : null
    if (told !== null) {
      const { environments, agents, secrets } = told.personal
      const kept = [plural(environments, 'environment'), plural(agents, 'agent'), plural(secrets, 'secret')].join(', ')
      const lines = [
        `You would leave team ${oneLine(team.name)}; ${plural(told.cancelled_runs, 'personal run')} would be cancelled.`,
        ...endedLines(told, 'Would end'),
        ...(environments + agents + secrets === 0
          ? []
          : [`Personal to you, and kept where nobody sees it, in case you come back: ${kept}.`]),
      ]
      if (options.dryRun === true) return out.show(told, () => lines)
      for (const line of lines) out.note(line)
      if (!(await askYes(context, `Leave team ${oneLine(team.name)}?`)))
        throw new CommandFailure('interrupted', 'You are still in the team.')
    }
    const left = await client.teams.leave({ params, body: {}, signal })
    await out.show(left, () => [
      `Left team ${oneLine(team.name)}; ${plural(left.cancelled_runs, 'personal run')} cancelled.`,
      ...endedLines(left),
    ])
  },
}

export const transfer: CommandModule = {
  declare: (command) =>
    void command
      .argument('<member>', 'who is to own it: user id, e-mail address or name')
      .addOption(
        command
          .createOption('--stay-as <role>', 'what you are then; admin without it')
          .choices(['admin', 'member', 'viewer']),
      )
      .option('--force', 'without asking on a terminal'),
  async run(context, { args: [asked = ''], options }) {
    const client = clientOf(context)
    const { out, signal } = context
    const { user_id, display_name } = await findMember(context, asked)
    const own_role = Role.exclude(['owner']).default('admin').parse(options.stayAs)
    const { team } = await client.access.whoami({ signal })
    const who = oneLine(display_name)
    if (context.interactive && options.force !== true) {
      const question = `Make ${who} an owner of team ${oneLine(team.name)}, and yourself ${own_role}?`
      if (!(await askYes(context, question))) throw new CommandFailure('interrupted', 'Nothing was changed.')
    }
    const params = { team_id: team.team_id }
    const now = await client.teams.transfer({ params, body: { user_id, own_role }, signal })
    await out.show({ user_id, ...now }, () => [`${who} owns team ${oneLine(now.name)} now; you are ${now.role}.`])
  },
}

export const deleteTeam: CommandModule = {
  declare: (command) =>
    void command
      .argument('<name>', 'the name of the team that the key acts for')
      .option('--cancel-runs', 'cancel runs that have not ended; without it such a team is not deleted')
      .option('--force', 'without asking on a terminal')
      .addHelpText(
        'after',
        `
It is closed to everybody at once. The code that is printed, this once, restores it within 30 days; then its secrets
are destroyed. See docs/access.md.`,
      ),
  async run(context, { args: [name = ''], options }) {
    const client = clientOf(context)
    const { out, signal } = context
    const { team } = await client.access.whoami({ signal })
    const params = { team_id: team.team_id }
    if (context.interactive && options.force !== true) {
      for (const line of contentLines(await client.teams.contents({ params, signal }))) out.note(line)
      const typed = await askLine(context, `Type the name of the team to delete it:`)
      if (typed.trim() !== team.name) throw new CommandFailure('interrupted', 'Nothing was deleted.')
    }
    const query = { confirm: name, ...(options.cancelRuns === true && { cancel_runs: true }) }
    const deleted = await client.teams.delete({ params, query, signal })
    await out.show(deleted, () => deletedLines(deleted))
  },
}

export const restore: CommandModule = {
  declare: (command) => void command.argument('<code>', 'the code that baton team delete printed'),
  async run(context, { args: [code = ''] }) {
    const server = context.settings.server.value ?? ''
    // Who deleted their only team has no key that still opens anything.
    const restored = await connect({ server, token: undefined }).teams.restore({
      body: { code },
      signal: context.signal,
    })
    await context.out.show(restored, () => [
      `Team ${oneLine(restored.team.name)} is open again, with the members and keys that it had; ` +
        `${plural(restored.resumed_schedules, 'schedule')} went on.`,
    ])
  },
}

function endedLines({ ended_keys, stopped_schedules }: Departure, word = 'Ended'): string[] {
  return [
    ...ended_keys.map(({ name, scope, preview }) => `${word} key ${oneLine(name)} (${scope}, ${preview}).`),
    ...stopped_schedules.map(({ id, name, is_personal }) =>
      is_personal
        ? `${word} personal schedule ${oneLine(name)}.`
        : `Schedule ${oneLine(name)} stands still until an admin takes it over: baton schedule take-over ${id}`,
    ),
  ]
}

function contentLines({ name, ...had }: TeamContents): string[] {
  const what = [
    plural(had.members, 'member'),
    plural(had.api_keys, 'API key'),
    plural(had.workers, 'connected worker'),
    plural(had.schedules, 'schedule'),
    plural(had.environments, 'environment'),
    plural(had.agents, 'agent'),
    plural(had.secrets, 'secret'),
    plural(had.runs, 'run'),
  ]
  return [
    `Team ${oneLine(name)} has ${what.join(', ')}.`,
    had.open_runs === 0 ? 'No run is going on.' : `Not ended: ${plural(had.open_runs, 'run')}.`,
    'Deleted, it is closed to everybody at once; for 30 days a code restores it, then its secrets are destroyed.',
  ]
}

const deletedLines = ({
  team,
  cancelled_runs,
  stopped_schedules,
  restore_code,
  restore_until,
}: DeletedTeam): string[] => [
  `Deleted team ${oneLine(team.name)}: ${plural(cancelled_runs, 'run')} cancelled, ` +
    `${plural(stopped_schedules, 'schedule')} stopped. Its keys open nothing any more.`,
  `Until ${restore_until} it can be restored (this code is shown this once): baton team restore ${restore_code}`,
]
