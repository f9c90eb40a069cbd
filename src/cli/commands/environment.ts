import type { Command } from 'commander'
import { z } from 'zod'
import type { EditEnvironment, Environment, Repository } from '../../contract/index.ts'
import type { CommandModule } from '../commands.ts'
import { type Context, clientOf, type Given } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { IMAGES } from '../images.ts'
import { collect, pickNamed, readPairs } from '../named.ts'
import { paint } from '../output.ts'
import { isSameRepository, namedRepository, repositoryOf } from '../repositories.ts'
import { declareScope, scopeOf } from '../scope.ts'
import { ago, alignColumns, oneLine } from '../text.ts'

const SORTS = ['last-updated', 'name']

export const list: CommandModule = {
  declare: (command) => {
    command.addOption(
      command.createOption('--sort-by <field>', 'last-updated or name').choices(SORTS).default('last-updated'),
    )
  },
  async run(context, { options }) {
    const sort_by = options.sortBy === 'name' ? 'name' : 'last_updated'
    const answer = await clientOf(context).environments.list({ query: { sort_by }, signal: context.signal })
    const { environments } = answer
    const now = Date.now()
    await context.out.show(
      answer,
      () => {
        const rows = environments.map(({ uid, config, last_updated, setup_failed }) => [
          uid,
          oneLine(config.name),
          ago(last_updated, now),
          oneLine(config.repositories.map(shownRepository).join(' ')),
          setup_failed ? paint.red('the last set-up failed') : '',
        ])
        if (rows.length === 0) return []
        return alignColumns([['UID', 'NAME', 'CHANGED', 'REPOSITORIES', ''].map(paint.dim), ...rows], context.out.width)
      },
      () => environments,
    )
    if (environments.length === 0 && !context.out.machine)
      context.out.note('No environments. Make one with: baton environment create -n NAME -r OWNER/REPO')
  },
}

/** What there is to begin with, and what the environments have already. */
export const images: CommandModule = {
  declare: () => {},
  async run(context) {
    const { environments } = await clientOf(context).environments.list({ signal: context.signal })
    const used = environments.flatMap(({ config }) =>
      config.docker_image ? [{ ...config, image: config.docker_image }] : [],
    )
    const own = [...new Set(used.map(({ image }) => image))]
      .filter((image) => IMAGES.every((known) => known.image !== image))
      .map((image) => ({
        image,
        description: `of ${used.flatMap((one) => (one.image === image ? [one.name] : [])).join(', ')}`,
      }))
    const all = [...IMAGES, ...own]
    await context.out.show(
      { images: all },
      () => {
        const rows = all.map(({ image, description }) => [oneLine(image), oneLine(description)])
        return alignColumns([['IMAGE', ''].map(paint.dim), ...rows], context.out.width)
      },
      () => all,
    )
  },
}

export const get: CommandModule = {
  declare: (command) => void command.argument('<environment>', 'uid or name'),
  run: async (context, given) => show(context, await find(context, given)),
}

export const create: CommandModule = {
  declare: (command) => {
    declareParts(command.requiredOption('-n, --name <name>', 'its name; one of a kind in the team'))
    declareScope(command)
  },
  async run(context, { options }) {
    const o = Options.parse(options)
    const body = {
      name: o.name ?? '',
      ...textsOf(o),
      ...scopeOf(options),
      repositories: o.repo.map((repo) => repositoryOf(context.cwd, repo)),
      setup_commands: o.setupCommand,
      variables: readPairs('--variable', o.variable),
    }
    await show(context, await clientOf(context).environments.create({ body, signal: context.signal }))
  },
}

export const update: CommandModule = {
  declare: (command) => {
    declareParts(command.argument('<environment>', 'uid or name').option('-n, --name <name>', 'another name'))
      .addOption(command.createOption('--remove-description', 'no description').conflicts('description'))
      .addOption(command.createOption('--remove-docker-image', 'no image').conflicts('dockerImage'))
      .option('--remove-repo <repo>', 'a repository that it has; may be repeated', collect)
      .option('--remove-setup-command <command>', 'a set-up command, word for word; may be repeated', collect)
      .option('--remove-variable <name>', 'a variable; may be repeated', collect)
      .option('--force', 'also if somebody else changes it at the same time')
  },
  async run(context, given) {
    const o = Options.parse(given.options)
    const { uid, config, version } = await find(context, given)
    const body: EditEnvironment = {
      ...(o.name === undefined ? {} : { name: o.name }),
      ...textsOf(o),
      ...(o.removeDescription ? { description: null } : {}),
      ...(o.removeDockerImage ? { docker_image: null } : {}),
      ...listsOf(context, o, config),
      ...(o.force ? {} : { version }),
    }
    const params = { environment_uid: uid }
    await show(context, await clientOf(context).environments.update({ params, body, signal: context.signal }))
  },
}

export const remove: CommandModule = {
  declare: (command) => {
    command
      .argument('<environment>', 'uid or name')
      .option('--force', 'also if runs or agent identities use it; runs keep it as it is')
  },
  async run(context, given) {
    const { uid, config } = await find(context, given)
    const query = { force: given.options.force === true }
    await clientOf(context).environments.delete({ params: { environment_uid: uid }, query, signal: context.signal })
    await context.out.show({ uid, deleted: true }, () => [`Deleted environment ${config.name}.`])
  },
}

function declareParts(command: Command): Command {
  return command
    .option('--description <text>', 'at most 240 characters')
    .option('-d, --docker-image <image>', 'image, for workers that have containers')
    .option('-r, --repo <repo>', 'OWNER/REPO on GitHub, URL#ref or a path; may be repeated', collect)
    .option('-c, --setup-command <command>', 'run before the harness starts; may be repeated', collect)
    .option('--variable <name=value>', 'environment variable; may be repeated', collect)
}

const Texts = z.array(z.string()).default([])
const Options = z.object({
  name: z.string().optional(),
  description: z.string().optional(),
  dockerImage: z.string().optional(),
  repo: Texts,
  setupCommand: Texts,
  variable: Texts,
  removeDescription: z.boolean().default(false),
  removeDockerImage: z.boolean().default(false),
  removeRepo: Texts,
  removeSetupCommand: Texts,
  removeVariable: Texts,
  force: z.boolean().default(false),
})
type Options = z.infer<typeof Options>

const textsOf = ({ description, dockerImage }: Options) => ({
  ...(description === undefined ? {} : { description }),
  ...(dockerImage === undefined ? {} : { docker_image: dockerImage }),
})

/** The lists as they are to be; what is to go must be there. */
function listsOf(context: Context, o: Options, config: Environment['config']): EditEnvironment {
  const gone = o.removeRepo.map((repo) => namedRepository(context.cwd, repo))
  const added = o.repo.map((repo) => repositoryOf(context.cwd, repo))
  const has = (all: Repository[], one: Repository) => all.some((other) => isSameRepository(other, one))
  missing(
    'repository',
    o.removeRepo.filter((_, at) => !has(config.repositories, gone[at] as Repository)),
  )
  missing(
    'set-up command',
    o.removeSetupCommand.filter((one) => !config.setup_commands.includes(one)),
  )
  missing(
    'variable',
    o.removeVariable.filter((one) => config.variables[one] === undefined),
  )
  const kept = Object.entries(config.variables).filter(([name]) => !o.removeVariable.includes(name))
  return {
    repositories: [...config.repositories.filter((one) => !has([...gone, ...added], one)), ...added],
    setup_commands: [...config.setup_commands.filter((one) => !o.removeSetupCommand.includes(one)), ...o.setupCommand],
    variables: { ...Object.fromEntries(kept), ...readPairs('--variable', o.variable) },
  }
}

function missing(what: string, [first]: string[]): void {
  if (first === undefined) return
  throw new CommandFailure('usage', `The environment has no ${what} "${first}".`, 'See: baton environment get.')
}

async function find(context: Context, { args: [asked = ''] }: Given): Promise<Environment> {
  const { environments } = await clientOf(context).environments.list({ signal: context.signal })
  return pickNamed('environment', environments, asked, ({ config }) => config.name)
}

const shownRepository = ({ url, ref }: Repository): string =>
  url.replace(/^https:\/\/github\.com\//, '').replace(/\.git$/, '') + (ref === undefined ? '' : `#${ref}`)

function show(context: Context, environment: Environment): Promise<void> {
  const { uid, config, version, last_updated, last_editor, last_task_created, setup_failed } = environment
  return context.out.show(environment, () => {
    const rows: [string, string | undefined | null][] = [
      ['Environment', config.name],
      ['Uid', uid],
      ['Description', config.description],
      ['Image', config.docker_image],
      ...config.repositories.map((one): [string, string] => ['Repository', shownRepository(one)]),
      ...config.setup_commands.map((one): [string, string] => ['Set-up', one]),
      ['Variables', Object.keys(config.variables).join(' ')],
      ['MCP servers', Object.keys(config.mcp_servers).join(' ')],
      ['Changed', `${last_updated} by ${last_editor.display_name ?? last_editor.uid} (version ${version})`],
      ['Last run', last_task_created && `${last_task_created.id} ${last_task_created.state}`],
      ['', setup_failed ? paint.red('It could not be set up for its last run.') : ''],
    ]
    return rows.flatMap(([name, value]) => (value ? [`${paint.dim(name.padEnd(12))} ${oneLine(value)}`] : []))
  })
}
