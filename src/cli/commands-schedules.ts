/** The commands of schedules. */
import type { CommandEntry, CommandGroup } from './commands.ts'

export const SCHEDULE_GROUPS: Record<string, CommandGroup> = {
  schedule: { summary: 'Runs at planned times', aliases: ['schedules'], group: 'Runs:' },
}

const schedule = () => import('./commands/schedule.ts')
const times = () => import('./commands/schedule-times.ts')

export const SCHEDULE_COMMANDS: CommandEntry[] = [
  {
    path: 'schedule create',
    summary: 'Create a schedule; also without the word create',
    is_default: true,
    load: async () => (await schedule()).create,
  },
  { path: 'schedule list', aliases: ['ls'], summary: 'List schedules', load: async () => (await schedule()).list },
  { path: 'schedule get', summary: 'Show one schedule', load: async () => (await schedule()).get },
  { path: 'schedule update', summary: 'Change a schedule', load: async () => (await schedule()).update },
  { path: 'schedule pause', summary: 'Make no runs for now', load: async () => (await schedule()).pause },
  {
    path: 'schedule unpause',
    aliases: ['resume'],
    summary: 'Make runs again',
    load: async () => (await schedule()).unpause,
  },
  { path: 'schedule delete', summary: 'Delete a schedule', load: async () => (await schedule()).remove },
  {
    path: 'schedule take-over',
    summary: 'Become who it acts for',
    load: async () => (await schedule()).takeOver,
  },
  { path: 'schedule run-now', summary: 'Make a run of it now', load: async () => (await times()).runNow },
  { path: 'schedule next', summary: 'Show its next times', load: async () => (await times()).next },
  {
    path: 'schedule history',
    summary: 'Show what its times came to',
    load: async () => (await times()).history,
  },
]
