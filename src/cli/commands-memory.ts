/** The commands of memory stores and of what they hold. */
import type { CommandEntry, CommandGroup } from './commands.ts'

export const MEMORY_GROUPS: Record<string, CommandGroup> = {
  'memory-store': { summary: 'Where agents remember', aliases: ['memory-stores'], group: 'Runs:' },
  memory: { summary: 'What is remembered in a memory store', aliases: ['memories'], group: 'Runs:' },
}

const store = () => import('./commands/memory-store.ts')
const memory = () => import('./commands/memory.ts')

export const MEMORY_COMMANDS: CommandEntry[] = [
  { path: 'memory-store list', aliases: ['ls'], summary: 'List memory stores', load: async () => (await store()).list },
  { path: 'memory-store create', summary: 'Create a memory store', load: async () => (await store()).create },
  { path: 'memory-store get', summary: 'Show one memory store', load: async () => (await store()).get },
  { path: 'memory-store update', summary: 'Say what it is for', load: async () => (await store()).update },
  {
    path: 'memory-store list-store-agents',
    summary: 'List the agents that have it',
    load: async () => (await store()).agents,
  },
  {
    path: 'memory-store delete',
    aliases: ['rm'],
    summary: 'Delete a memory store',
    load: async () => (await store()).remove,
  },
  {
    path: 'memory list',
    aliases: ['ls'],
    summary: 'List the memories of a store',
    load: async () => (await memory()).list,
  },
  { path: 'memory create', aliases: ['add'], summary: 'Add a memory', load: async () => (await memory()).create },
  { path: 'memory update', aliases: ['edit'], summary: 'Change a memory', load: async () => (await memory()).update },
  {
    path: 'memory delete',
    aliases: ['remove', 'rm'],
    summary: 'Delete a memory; a tombstone stays',
    load: async () => (await memory()).remove,
  },
  { path: 'memory versions', summary: 'Show what a memory has said', load: async () => (await memory()).versions },
]
