/** The commands of who may do what: teams, their members, API keys. */
import type { CommandEntry, CommandGroup } from './commands.ts'

const ACCESS = 'Access and settings:'

export const ACCESS_GROUPS: Record<string, CommandGroup> = {
  team: { summary: 'Who is in the team, and what it may use', aliases: ['teams'], group: ACCESS },
  'api-key': { summary: 'Keys with which programs act', aliases: ['api-keys'], group: ACCESS },
}

const team = () => import('./commands/team.ts')
const ends = () => import('./commands/team-ends.ts')
const key = () => import('./commands/api-key.ts')

export const ACCESS_COMMANDS: CommandEntry[] = [
  { path: 'login', summary: 'Keep an API key for a server', group: ACCESS, load: () => import('./commands/login.ts') },
  {
    path: 'logout',
    summary: 'Forget the API key of a server',
    group: ACCESS,
    load: () => import('./commands/logout.ts'),
  },
  {
    path: 'whoami',
    summary: 'Who the server takes you for',
    group: ACCESS,
    load: () => import('./commands/whoami.ts'),
  },
  {
    path: 'team list',
    aliases: ['ls'],
    summary: 'List the teams that you are in',
    load: async () => (await team()).list,
  },
  { path: 'team create', summary: 'Make a team', load: async () => (await team()).create },
  { path: 'team rename', summary: 'Rename the team', load: async () => (await team()).rename },
  { path: 'team members', summary: 'List who is in the team', load: async () => (await team()).members },
  { path: 'team role', summary: 'Change what a member may do', load: async () => (await team()).role },
  { path: 'team remove', summary: 'Remove a member', load: async () => (await ends()).remove },
  { path: 'team leave', summary: 'Leave the team', load: async () => (await ends()).leave },
  { path: 'team transfer', summary: 'Hand the team to another member', load: async () => (await ends()).transfer },
  { path: 'team delete', summary: 'Delete the team', load: async () => (await ends()).deleteTeam },
  { path: 'team restore', summary: 'Open a deleted team again', load: async () => (await ends()).restore },
  { path: 'team invite', summary: 'Invite somebody to the team', load: async () => (await team()).invite },
  { path: 'team invites', summary: 'List open invitations', load: async () => (await team()).invites },
  { path: 'team revoke', summary: 'Take an invitation back', load: async () => (await team()).revoke },
  { path: 'team join', summary: 'Take an invitation', load: async () => (await team()).join },
  {
    path: 'team limits',
    summary: 'Show or change what the team and its trees of runs may use',
    load: () => import('./commands/team-limits.ts'),
  },
  { path: 'api-key list', aliases: ['ls'], summary: 'List API keys', load: async () => (await key()).list },
  { path: 'api-key create', summary: 'Make an API key', load: async () => (await key()).create },
  { path: 'api-key expire', aliases: ['delete'], summary: 'End an API key', load: async () => (await key()).expire },
]
