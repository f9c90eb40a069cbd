/** The tree of commands for commander, with the code of only the one that was asked for. */
import { Command, CommanderError, Option } from 'commander'
import { COMMANDS, type CommandEntry, type CommandModule, GROUPS } from './commands.ts'
import { CommandFailure, EXIT, EXIT_MEANINGS, type ExitName } from './exits.ts'
import { OUTPUT_FORMATS } from './settings.ts'
import { spellOut } from './spellings.ts'
import { nearest } from './text.ts'

export type Chosen = { module: CommandModule; args: string[]; options: Record<string, unknown> }

export type Program = {
  root: Command
  /** What the arguments ask for; null after help was printed. */
  choose(args: string[]): Promise<Chosen | null>
  /** The command that `words` name, its options declared. */
  find(words: string[]): Promise<{ command: Command; rest: string[] }>
}

export function makeProgram(version: string, print: { out(text: string): void; err(text: string): void }): Program {
  const root = new Command('baton')
  const entries = new Map<Command, CommandEntry>()
  const modules = new Map<Command, CommandModule>()
  let chosen: Chosen | null = null

  const prepare = (command: Command): Command => {
    command
      .exitOverride()
      .helpCommand(false)
      .helpOption('-h, --help', 'show help')
      .enablePositionalOptions()
      .showSuggestionAfterError(false)
    return command.configureOutput({ writeOut: print.out, writeErr: print.err, outputError: () => {} })
  }
  const load = async (command: Command): Promise<void> => {
    const entry = entries.get(command)
    if (!entry || modules.has(command)) return
    const module = await entry.load()
    modules.set(command, module)
    module.declare(command)
    addGlobals(command, true)
    command.action(() => {
      chosen = {
        module,
        args: command.processedArgs
          .flat()
          .filter((arg) => arg !== undefined)
          .map(String),
        options: command.optsWithGlobals(),
      }
    })
  }
  const group = (words: string[]): Command => {
    if (words.length === 0) return root
    const parent = group(words.slice(0, -1))
    const name = words.at(-1) ?? ''
    const there = parent.commands.find((c) => c.name() === name)
    if (there) return there
    const about = GROUPS[words.join(' ')]
    const made = prepare(
      parent
        .command(name, { hidden: about?.hidden === true })
        .description(about?.summary ?? '')
        .aliases(about?.aliases ?? []),
    )
    if (about?.group) made.helpGroup(about.group)
    for (const [flags, meaning] of about?.options ?? []) made.option(flags, meaning)
    addGlobals(made, true)
    return made.hook('preSubcommand', (_, sub) => load(sub))
  }

  prepare(root)
    .description('A control plane that you own for AI coding agents that you choose.')
    .version(version, '-V, --version', 'print the version')
  root.hook('preSubcommand', (_, sub) => load(sub)).addHelpText('after', afterHelp)
  addGlobals(root, false)
  for (const entry of COMMANDS) {
    const words = entry.path.split(' ')
    const { hidden = false, is_default = false } = entry
    const parent = group(words.slice(0, -1))
    const command = prepare(parent.command(words.at(-1) ?? '', { hidden, isDefault: is_default }))
    command
      .summary(entry.summary)
      .description(entry.summary)
      .aliases(entry.aliases ?? [])
    if (entry.group) command.helpGroup(entry.group)
    entries.set(command, entry)
  }

  return {
    root,
    async choose(args) {
      try {
        const isCommand = (word: string) => root.commands.some((c) => c.name() === word || c.aliases().includes(word))
        await root.parseAsync(spellOut(args, isCommand), { from: 'user' })
        return chosen
      } catch (error) {
        if (!(error instanceof CommanderError)) throw error
        if (error.exitCode === 0 || error.code === 'commander.help') return null
        throw usageFailure(root, args, error)
      }
    },
    async find(words) {
      let command = root
      let rest = words
      for (let i = 0; i < words.length; i++) {
        const word = words[i] ?? ''
        if (word.startsWith('-')) continue
        const next = command.commands.find((c) => c.name() === word || c.aliases().includes(word))
        if (!next) break
        await load(next)
        command = next
        rest = words.slice(i + 1)
      }
      return { command, rest }
    },
  }
}

/** The same everywhere, before and after the command's name; a command's own option of that name goes first. */
function addGlobals(command: Command, hidden: boolean): void {
  const globals = [
    new Option('-o, --output-format <format>', "text, pretty, json (the API's body) or ndjson").choices(OUTPUT_FORMATS),
    new Option('--json', 'the same as --output-format json'),
    new Option('--jq <filter>', 'filter the JSON with jq; single values are printed bare'),
    new Option('--server <url>', 'the server to ask'),
    new Option('--api-key <key>', 'API key (better: BATON_API_KEY or "baton login", which no process list shows)'),
    new Option('--config-profile <name>', 'the profile of the configuration file to use'),
    new Option('-q, --quiet', 'no progress and no notes'),
    new Option('--no-input', 'never ask'),
    new Option('--debug', 'say more when something goes wrong'),
    new Option('--server-root-url <url>', 'the same as --server').hideHelp(),
    new Option('--ws-server-url <url>').hideHelp(),
    new Option('--session-sharing-server-url <url>').hideHelp(),
  ]
  if (!hidden) command.optionsGroup('Options for every command:')
  for (const option of globals) {
    if (command.options.some((own) => own.long === option.long)) continue
    if (option.short && command.options.some((own) => own.short === option.short))
      option.short = undefined as unknown as string
    command.addOption(hidden ? option.hideHelp() : option)
  }
  if (hidden) command.addHelpText('after', '\nOptions for every command (-o, --json, --jq, --server, …): baton --help')
}

function usageFailure(root: Command, args: string[], error: CommanderError): CommandFailure {
  let command = root
  const named: string[] = []
  for (const word of args.filter((arg) => !arg.startsWith('-'))) {
    const next = command.commands.find((c) => c.name() === word || c.aliases().includes(word))
    if (!next) break
    command = next
    named.push(next.name())
  }
  const stray = args[named.length]
  // A group that stands for one of its commands would take a mistyped word for something of that one.
  const is_stray = stray !== undefined && !stray.startsWith('-') && command.commands.length > 0
  const message = is_stray ? `unknown command '${stray}'` : error.message.replace(/^error: /, '')
  const wrong = /'([^']+)'/.exec(message)?.[1]?.split(' ')[0] ?? ''
  const known =
    error.code === 'commander.unknownOption'
      ? command.options.filter((o) => o.long !== '--ws-server-url').map((o) => o.long ?? '')
      : command.commands.flatMap((c) => [c.name(), ...c.aliases()]).filter((name) => !name.startsWith('_'))
  const meant = is_stray || /unknown/.test(error.code) ? nearest(wrong, known) : undefined
  const where = ['baton', ...named].join(' ')
  const sentence = `${message.charAt(0).toUpperCase()}${message.slice(1)}${message.endsWith('.') ? '' : '.'}`
  return new CommandFailure(
    'usage',
    sentence,
    meant === undefined ? `See "${where} --help".` : `Did you mean "${meant}"? See "${where} --help".`,
  )
}

const exitLines = (): string =>
  (Object.keys(EXIT) as ExitName[]).map((name) => `  ${String(EXIT[name]).padEnd(4)} ${EXIT_MEANINGS[name]}`).join('\n')

const afterHelp = (): string => `
Examples:
  baton up                                        start everything on this machine
  baton agent run-cloud "Fix the flaky test" --repo https://github.com/me/project --follow
  baton run list --state in-progress
  baton run logs -f RUN_ID

Exit codes:
${exitLines()}

Environment:
  BATON_SERVER, BATON_API_KEY, BATON_OUTPUT_FORMAT, BATON_PROFILE
  (and WARP_SERVER_ROOT_URL, WARP_API_KEY, WARP_OUTPUT_FORMAT),
  NO_COLOR, FORCE_COLOR, XDG_CONFIG_HOME, XDG_DATA_HOME, XDG_CACHE_HOME. "baton config explain" shows what is in force.`
