/** Commands of Oz's that mean little here: scripts that call them go on, or are told what to use. */
import type { CommandEntry, CommandGroup } from './commands.ts'

export const OZ_GROUPS: Record<string, CommandGroup> = {
  'agent profile': { summary: 'What agents may do without being asked' },
  mcp: { summary: 'MCP servers of environments and agent identities', group: 'Runs:' },
}

const ozOnly = () => import('./commands/oz-only.ts')
const refused = (path: string, aliases: string[], which: 'runner' | 'integration'): CommandEntry => ({
  path,
  aliases,
  summary: 'Not in Baton; it says what to use',
  hidden: true,
  load: async () => (await ozOnly())[which],
})

export const OZ_COMMANDS: CommandEntry[] = [
  {
    path: 'agent profile list',
    aliases: ['ls'],
    summary: 'List what --profile takes',
    load: () => import('./commands/agent-profile-list.ts'),
  },
  { path: 'mcp list', aliases: ['ls'], summary: 'List MCP servers', load: () => import('./commands/mcp-list.ts') },
  refused('runner', [], 'runner'),
  refused('integration', ['i'], 'integration'),
  refused('provider', [], 'integration'),
]
