/** The commands of what runs name: environments, agent identities, skills, models, templates and artifacts. */
import type { CommandEntry, CommandGroup } from './commands.ts'

export const NAMED_GROUPS: Record<string, CommandGroup> = {
  environment: {
    summary: 'Where runs happen: repositories, set-up, variables',
    aliases: ['e', 'environments'],
    group: 'Runs:',
  },
  'environment image': { summary: 'Images that environments can have' },
  model: { summary: 'The models that workers reach', aliases: ['models'], group: 'Runs:' },
  template: { summary: 'Patterns of work that are known to go well', aliases: ['templates'], group: 'Runs:' },
  artifact: { summary: 'What runs made for people', aliases: ['artifacts'], group: 'Runs:' },
}

const environment = () => import('./commands/environment.ts')
const template = () => import('./commands/template.ts')
const artifact = () => import('./commands/artifact.ts')
const agent = () => import('./commands/agent-identity.ts')

export const NAMED_COMMANDS: CommandEntry[] = [
  { path: 'agent list', aliases: ['ls'], summary: 'List agent identities', load: async () => (await agent()).list },
  { path: 'agent get', summary: 'Show one agent identity', load: async () => (await agent()).get },
  { path: 'agent create', summary: 'Create an agent identity', load: async () => (await agent()).create },
  { path: 'agent update', summary: 'Change an agent identity', load: async () => (await agent()).update },
  { path: 'agent delete', summary: 'Delete an agent identity', load: async () => (await agent()).remove },
  {
    path: 'agent skills',
    summary: "List the skills in the environments' repositories",
    load: () => import('./commands/agent-skills.ts'),
  },
  { path: 'model list', aliases: ['ls'], summary: 'List models', load: () => import('./commands/model-list.ts') },
  {
    path: 'environment list',
    aliases: ['ls'],
    summary: 'List environments',
    load: async () => (await environment()).list,
  },
  {
    path: 'environment image list',
    aliases: ['ls'],
    summary: 'List images to begin with',
    load: async () => (await environment()).images,
  },
  { path: 'environment get', summary: 'Show one environment', load: async () => (await environment()).get },
  { path: 'environment create', summary: 'Create an environment', load: async () => (await environment()).create },
  { path: 'environment update', summary: 'Change an environment', load: async () => (await environment()).update },
  { path: 'environment delete', summary: 'Delete an environment', load: async () => (await environment()).remove },
  { path: 'template list', aliases: ['ls'], summary: 'List templates', load: async () => (await template()).list },
  { path: 'template show', summary: 'Show what a template needs', load: async () => (await template()).show },
  { path: 'artifact get', summary: 'Show one artifact', load: async () => (await artifact()).get },
  {
    path: 'artifact download',
    summary: 'Fetch the file of an artifact',
    load: async () => (await artifact()).download,
  },
  {
    path: 'artifact upload',
    summary: 'Keep a file with a run',
    hidden: true,
    load: async () => (await artifact()).upload,
  },
]
