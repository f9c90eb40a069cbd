/** Every command there is. A command's code is loaded when it is the one that was asked for. */
import type { Command } from 'commander'
import { ACCESS_COMMANDS, ACCESS_GROUPS } from './commands-access.ts'
import { BATCH_COMMANDS, BATCH_GROUPS } from './commands-batches.ts'
import { INSIDE_COMMANDS, INSIDE_GROUPS } from './commands-inside.ts'
import { MEMORY_COMMANDS, MEMORY_GROUPS } from './commands-memory.ts'
import { NAMED_COMMANDS, NAMED_GROUPS } from './commands-named.ts'
import { OZ_COMMANDS, OZ_GROUPS } from './commands-oz.ts'
import { SCHEDULE_COMMANDS, SCHEDULE_GROUPS } from './commands-schedules.ts'
import { SECRET_COMMANDS, SECRET_GROUPS } from './commands-secrets.ts'
import type { Context, Given } from './context.ts'

export type CommandModule = {
  /** Adds arguments, options and help to a command that has name and summary already. */
  declare(command: Command): void
  /** The exit code; anything else is success. */
  run(context: Context, given: Given): Promise<unknown>
}

export type CommandEntry = {
  path: string
  aliases?: string[]
  summary: string
  group?: string
  hidden?: boolean
  /** It is what the group's name alone stands for. */
  is_default?: boolean
  load: () => Promise<CommandModule>
}

const SERVERS = 'Servers and workers:'
const RUNS = 'Runs:'
const ACCESS = 'Access and settings:'
const MACHINE = 'This machine:'

/** A name that holds commands, with its other spellings. */
export type CommandGroup = {
  summary: string
  aliases?: string[]
  group?: string
  hidden?: boolean
  /** Flags and meaning of options that may stand before the command's name, too. */
  options?: [string, string][]
}

export const GROUPS: Record<string, CommandGroup> = {
  agent: { summary: 'Give work to an agent, here or on a worker', aliases: ['agents'], group: RUNS },
  run: { summary: 'List, watch and end runs', aliases: ['task', 'runs'], group: RUNS },
  'run conversation': { summary: 'Conversations: what was said and done in one run or several' },
  ...ACCESS_GROUPS,
  config: { summary: 'Where settings come from', group: ACCESS },
  harness: { summary: 'The programs that drive models', aliases: ['harnesses'], group: MACHINE },
  ...BATCH_GROUPS,
  ...INSIDE_GROUPS,
  ...NAMED_GROUPS,
  ...MEMORY_GROUPS,
  ...SECRET_GROUPS,
  ...SCHEDULE_GROUPS,
  ...OZ_GROUPS,
}

export const COMMANDS: CommandEntry[] = [
  {
    path: 'up',
    summary: 'Start PostgreSQL, server and worker in one process',
    group: SERVERS,
    load: () => import('./commands/up.ts'),
  },
  { path: 'serve', summary: 'Start a server only', group: SERVERS, load: () => import('./commands/serve.ts') },
  {
    path: 'worker',
    summary: 'Start a worker that takes runs from a server',
    group: SERVERS,
    load: () => import('./commands/worker.ts'),
  },
  {
    path: 'workers',
    aliases: ['worker-list'],
    summary: 'List the workers that are connected',
    group: SERVERS,
    load: () => import('./commands/workers.ts'),
  },
  {
    path: 'demo',
    summary: 'See it work: a run with three children, in a temporary folder',
    group: MACHINE,
    load: () => import('./commands/demo.ts'),
  },
  {
    path: 'doctor',
    summary: 'Check what this machine has and lacks',
    group: MACHINE,
    load: () => import('./commands/doctor.ts'),
  },
  {
    path: 'agent run',
    aliases: ['r'],
    summary: 'Work on a prompt here, in the current folder',
    load: () => import('./commands/agent-run.ts'),
  },
  {
    path: 'agent run-cloud',
    aliases: ['ra', 'run-ambient'],
    summary: 'Create a run for a worker',
    load: () => import('./commands/agent-run-cloud.ts'),
  },
  {
    path: 'run create',
    summary: 'Create a run for a worker (agent run-cloud)',
    load: () => import('./commands/agent-run-cloud.ts'),
  },
  { path: 'run list', aliases: ['ls'], summary: 'List runs', load: () => import('./commands/run-list.ts') },
  { path: 'run get', summary: 'Show one run', load: () => import('./commands/run-get.ts') },
  { path: 'run watch', summary: 'Follow a run until it ends', load: () => import('./commands/run-watch.ts') },
  {
    path: 'run logs',
    aliases: ['log'],
    summary: 'Print the transcript of a run',
    load: () => import('./commands/run-logs.ts'),
  },
  { path: 'run wait', summary: 'Wait until runs have ended', load: () => import('./commands/run-wait.ts') },
  {
    path: 'run tree',
    summary: 'Show a run and all that descends from it',
    load: () => import('./commands/run-tree.ts'),
  },
  { path: 'run cancel', aliases: ['stop'], summary: 'Cancel runs', load: () => import('./commands/run-cancel.ts') },
  { path: 'run retry', summary: 'Start a run that has ended again', load: () => import('./commands/run-retry.ts') },
  {
    path: 'run release',
    summary: 'Let a tree that the storm guard stopped go on',
    load: () => import('./commands/run-release.ts'),
  },
  {
    path: 'run plan',
    summary: 'Show the plan of a run, or all that wait',
    load: () => import('./commands/run-plan.ts'),
  },
  { path: 'run approve', summary: 'Approve a plan', load: () => import('./commands/run-approve.ts') },
  { path: 'run revise', summary: 'Ask for changes to a plan', load: () => import('./commands/run-revise.ts') },
  { path: 'run reject', summary: 'Reject a plan', load: () => import('./commands/run-reject.ts') },
  {
    path: 'run follow-up',
    aliases: ['followup'],
    summary: 'Say more to a run',
    load: () => import('./commands/run-follow-up.ts'),
  },
  { path: 'run open', summary: 'Open a run in the browser', load: () => import('./commands/run-open.ts') },
  {
    path: 'run conversation get',
    summary: 'Print a conversation',
    load: () => import('./commands/run-conversation-get.ts'),
  },
  ...BATCH_COMMANDS,
  ...INSIDE_COMMANDS,
  ...NAMED_COMMANDS,
  ...MEMORY_COMMANDS,
  ...SECRET_COMMANDS,
  ...SCHEDULE_COMMANDS,
  ...ACCESS_COMMANDS,
  ...OZ_COMMANDS,
  { path: 'open', summary: 'Open the page, signed in', group: ACCESS, load: () => import('./commands/open.ts') },
  {
    path: 'config explain',
    summary: 'Show each setting and where it comes from',
    load: () => import('./commands/config-explain.ts'),
  },
  {
    path: 'harness list',
    aliases: ['ls'],
    summary: 'List harnesses and whether they can start here',
    load: () => import('./commands/harness-list.ts'),
  },
  {
    path: 'harness install',
    summary: 'Fetch a harness to the user cache folder',
    load: () => import('./commands/harness-install.ts'),
  },
  {
    path: 'harness test',
    summary: 'Start a harness and see it answer',
    load: () => import('./commands/harness-test.ts'),
  },
  {
    path: 'export',
    summary: "Write all data of this machine's server to a folder",
    group: MACHINE,
    load: () => import('./commands/export.ts'),
  },
  {
    path: 'import',
    summary: 'Read all data from a folder that export wrote',
    group: MACHINE,
    load: () => import('./commands/import.ts'),
  },
  { path: 'api', summary: 'Make one request of the API', group: ACCESS, load: () => import('./commands/api.ts') },
  {
    path: 'completion',
    aliases: ['completions'],
    summary: 'Print the completion script of a shell',
    group: MACHINE,
    load: () => import('./commands/completion.ts'),
  },
  { path: '__complete', summary: 'Candidates for a shell', hidden: true, load: () => import('./commands/complete.ts') },
  {
    path: 'acp-agent',
    summary: 'The built-in agent over ACP on stdin and stdout',
    hidden: true,
    load: () => import('./commands/acp-agent.ts'),
  },
]
