/**
 * Options of Oz's command line that mean something else here, or nothing. They are taken, so that scripts go on, and
 * said so; where going on would do something other than was asked for, they are refused with what to write instead.
 */
import { type Command, InvalidArgumentError } from 'commander'
import { z } from 'zod'
import { AgentConfig } from '../contract/index.ts'
import { CommandFailure } from './exits.ts'
import { collect } from './named.ts'
import { parseDuration } from './text.ts'

/** Flags, and what is said of them; null: nothing needs to be said. */
const UNUSED: [string, string | null][] = [
  ['--strict-mcp-startup', 'the harness decides what an MCP server that does not start means'],
  ['--mcp-startup-timeout <duration>', 'the harness decides how long it waits for an MCP server'],
  ['--gui', null],
  ['--sandboxed', null],
]

export function declareOzOptions(command: Command): Command {
  for (const [flags] of UNUSED) command.addOption(command.createOption(flags).hideHelp())
  return command
    .addOption(command.createOption('--saved-prompt <id>').hideHelp())
    .addOption(command.createOption('--share [recipient]').argParser(shared).hideHelp())
    .addOption(command.createOption('--computer-use').hideHelp())
    .addOption(command.createOption('--no-computer-use').hideHelp())
    .addOption(command.createOption('--profile <id>').hideHelp())
    .addOption(command.createOption('--runner <id>').hideHelp())
    .addOption(command.createOption('--bedrock-inference-role <arn>').hideHelp())
    .addOption(command.createOption('--bedrock-role-region <region>').hideHelp())
}

const Options = z.object({
  savedPrompt: z.string().optional(),
  share: z.union([z.array(z.string()), z.literal(true)]).optional(),
  computerUse: z.boolean().optional(),
  profile: z.string().optional(),
  runner: z.string().optional(),
  snapshotUploadTimeout: z.string().optional(),
  snapshotScriptTimeout: z.string().optional(),
  bedrockInferenceRole: z.string().optional(),
  bedrockRoleRegion: z.string().optional(),
})

/** What they come to in a run's configuration; `say` is told what a person should know. */
export function ozConfig(options: Record<string, unknown>, say: (line: string) => void): AgentConfig {
  const o = Options.parse(options)
  if (o.savedPrompt !== undefined)
    throw new CommandFailure(
      'usage',
      'Baton keeps no saved prompts.',
      'Keep it in a file: --prompt-file FILE. Patterns with parameters are templates: baton template list.',
    )
  for (const [flags, meaning] of UNUSED) {
    const flag = flags.split(' ')[0] ?? ''
    const given = options[flag.slice(2).replace(/-(\w)/g, (_, c: string) => c.toUpperCase())]
    if (given !== undefined && meaning !== null) say(`${flag} changes nothing here: ${meaning}.`)
  }
  if (o.runner !== undefined) say('--runner is kept with the run and changes nothing: see --host and --environment.')
  const public_access = publicAccess(o.share, say)
  return {
    ...(o.computerUse === undefined ? {} : { computer_use_enabled: o.computerUse }),
    ...(o.runner === undefined ? {} : { runner_id: o.runner }),
    ...(o.profile === undefined ? {} : { permissions: policyOf(o.profile) }),
    ...(public_access === undefined ? {} : { session_sharing: { public_access } }),
    ...bedrockRole(o),
    ...secondsOf('snapshot_upload_timeout_secs', o.snapshotUploadTimeout),
    ...secondsOf('snapshot_script_timeout_secs', o.snapshotScriptTimeout),
  }
}

/** Whole seconds, no fewer than asked for. */
function secondsOf(
  field: 'snapshot_upload_timeout_secs' | 'snapshot_script_timeout_secs',
  text: string | undefined,
): AgentConfig {
  if (text === undefined) return {}
  const seconds = Math.ceil((parseDuration(text) ?? 0) / 1000)
  if (AgentConfig.shape[field].safeParse(seconds).success) return { [field]: seconds }
  const flag = `--${field.replace(/_secs$/, '').replaceAll('_', '-')}`
  throw new CommandFailure('usage', `${flag} "${text}" is no duration from 1s to 1h.`, 'Write it as 30s, 2m or 1m30s.')
}

/** What Oz calls a profile is here a policy of what an agent may do without being asked. */
export const PROFILES = [
  { id: 'allow', name: 'Allow', says: 'whatever the harness asks leave for is allowed' },
  { id: 'deny', name: 'Deny', says: 'whatever the harness asks leave for is denied' },
] as const

function policyOf(profile: string): 'allow' | 'deny' {
  const found = PROFILES.find(({ id }) => id === profile)
  if (found) return found.id
  throw new CommandFailure(
    'usage',
    `There is no profile "${profile}".`,
    'Profiles are allow and deny, the same as --permissions; see: baton agent profile list.',
  )
}

const SHARED = /^(team|public|[^@\s:]+@[^@\s:]+)(?::(view|edit))?$/

/** `team`, `public` or an e-mail address, each with `:view` or `:edit`; without any the team. */
function shared(value: string, before: unknown): string[] {
  if (!SHARED.test(value))
    throw new InvalidArgumentError('It is team, public or an e-mail address; then :view or :edit.')
  return collect(value, Array.isArray(before) ? before : [])
}

function publicAccess(
  share: string[] | true | undefined,
  say: (line: string) => void,
): 'VIEWER' | 'EDITOR' | undefined {
  if (share === undefined) return undefined
  const recipients = share === true ? ['team'] : share
  const open = recipients.find((one) => one.startsWith('public'))
  if (recipients.some((one) => one.includes('@')))
    say('--share with a person changes nothing: the team sees a run; invite them with baton team invite --role viewer.')
  if (open === undefined) return undefined
  if (open === 'public:edit')
    say('--share public:edit: what the run makes can be read by its address; nobody acts by it.')
  return open === 'public:edit' ? 'EDITOR' : 'VIEWER'
}

function bedrockRole({
  bedrockInferenceRole: role_arn,
  bedrockRoleRegion: region,
}: z.infer<typeof Options>): AgentConfig {
  if (role_arn === undefined && region === undefined) return {}
  if (role_arn === undefined || region === undefined)
    throw new CommandFailure('usage', '--bedrock-inference-role and --bedrock-role-region go together.')
  return { inference_providers: { aws: { role_arn, region } } }
}
