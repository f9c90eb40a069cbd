/** The commands that programs inside a run use: the mailbox, and what a harness says of its own work. */
import type { CommandEntry, CommandGroup } from './commands.ts'

export const INSIDE_GROUPS: Record<string, CommandGroup> = {
  'run message': { summary: 'Messages between runs', aliases: ['messages'] },
  'harness-support': {
    summary: 'What a harness says of its own work, from inside its sandbox',
    hidden: true,
    options: [['--run-id <run>', 'the run to speak for; OZ_RUN_ID where absent']],
  },
  'harness-support report-artifact': { summary: 'Add to what the run has made' },
}

const support = () => import('./commands/harness-support.ts')

export const INSIDE_COMMANDS: CommandEntry[] = [
  {
    path: 'run message watch',
    summary: 'Print the messages to a run as they come in',
    load: () => import('./commands/message-watch.ts'),
  },
  {
    path: 'run message send',
    summary: 'Send a message to one or more runs',
    load: () => import('./commands/message-send.ts'),
  },
  {
    path: 'run message list',
    aliases: ['ls'],
    summary: 'List the messages to a run',
    load: () => import('./commands/message-list.ts'),
  },
  { path: 'run message read', summary: 'Show one message', load: () => import('./commands/message-read.ts') },
  {
    path: 'run message mark-delivered',
    aliases: ['delivered'],
    summary: 'Say that the agent was given a message',
    load: () => import('./commands/message-mark-delivered.ts'),
  },
  {
    path: 'results',
    summary: 'Print the results of the tasks that this one builds on',
    hidden: true,
    load: () => import('./commands/results.ts'),
  },
  {
    path: 'harness-support ping',
    summary: 'Check that the server knows this run',
    load: async () => (await support()).ping,
  },
  {
    path: 'harness-support report-artifact pull-request',
    summary: 'Report a pull request',
    load: async () => (await support()).pullRequest,
  },
  {
    path: 'harness-support report-artifact file',
    summary: 'Keep a file with the run',
    load: async () => (await support()).file,
  },
  {
    path: 'harness-support report-external-reference',
    summary: 'Report something that is kept elsewhere',
    load: async () => (await support()).externalReference,
  },
  {
    path: 'harness-support notify-user',
    summary: 'Tell the person behind the run something',
    load: async () => (await support()).notifyUser,
  },
  {
    path: 'harness-support finish-task',
    summary: 'Say how the work went',
    load: async () => (await support()).finishTask,
  },
  {
    path: 'harness-support report-shutdown',
    summary: 'Say that the harness stops',
    load: async () => (await support()).reportShutdown,
  },
]
