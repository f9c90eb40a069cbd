/** The commands of batches. */
import type { CommandEntry, CommandGroup } from './commands.ts'

export const BATCH_GROUPS: Record<string, CommandGroup> = {
  batch: { summary: 'Hand a list of tasks to many agents', aliases: ['batches'], group: 'Runs:' },
}

export const BATCH_COMMANDS: CommandEntry[] = [
  {
    path: 'batch run',
    aliases: ['create'],
    summary: 'Start a batch of tasks',
    load: () => import('./commands/batch-run.ts'),
  },
  { path: 'batch list', aliases: ['ls'], summary: 'List batches', load: () => import('./commands/batch-list.ts') },
  { path: 'batch get', summary: 'Show a batch and its tasks', load: () => import('./commands/batch-get.ts') },
  { path: 'batch watch', summary: 'Follow a batch until it ends', load: () => import('./commands/batch-watch.ts') },
  { path: 'batch pause', summary: 'Start no further tasks', load: () => import('./commands/batch-pause.ts') },
  { path: 'batch resume', summary: 'Start tasks again', load: () => import('./commands/batch-resume.ts') },
  {
    path: 'batch retry',
    summary: 'Try tasks again that failed or were cancelled',
    load: () => import('./commands/batch-retry.ts'),
  },
  {
    path: 'batch update',
    summary: 'Change how many tasks are at work at a time',
    load: () => import('./commands/batch-update.ts'),
  },
  {
    path: 'batch cancel',
    aliases: ['stop'],
    summary: 'Cancel a batch and its tasks',
    load: () => import('./commands/batch-cancel.ts'),
  },
]
