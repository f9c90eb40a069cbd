/** The commands of what runs name: environments and agent identities. */
import type { CommandEntry, CommandGroup } from './commands.ts'

export const NAMED_GROUPS: Record<string, CommandGroup> = {
  environment: {
    summary: 'Where runs happen: repositories, set-up, variables',
    aliases: ['e', 'environments'],
    group: 'Runs:',
  },
}

const environment = () => import('./commands/environment.ts')
const agent = () => import('./commands/agent-identity.ts')

export const NAMED_COMMANDS: CommandEntry[] = [
  { path: 'agent list', aliases: ['ls'], summary: 'List agent identities', load: async () => (await agent()).list },
  { path: 'agent get', summary: 'Show one agent identity', load: async () => (await agent()).get },
  { path: 'agent create', summary: 'Create an agent identity', load: async () => (await agent()).create },
  { path: 'agent update', summary: 'Change an agent identity', load: async () => (await agent()).update },
  { path: 'agent delete', summary: 'Delete an agent identity', load: async () => (await agent()).remove },
  {
    path: 'environment list',
    aliases: ['ls'],
    summary: 'List environments',
    load: async () => (await environment()).list,
  },
  { path: 'environment get', summary: 'Show one environment', load: async () => (await environment()).get },
  { path: 'environment create', summary: 'Create an environment', load: async () => (await environment()).create },
  { path: 'environment update', summary: 'Change an environment', load: async () => (await environment()).update },
  { path: 'environment delete', summary: 'Delete an environment', load: async () => (await environment()).remove },
]
