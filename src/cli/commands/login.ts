import type { Command } from 'commander'
import { API_KEY_PATTERN, EXECUTION_TOKEN_PATTERN } from '../../contract/index.ts'
import { connect } from '../../sdk/client.ts'
import { askSecret } from '../ask.ts'
import { type Context, type Given, readAll } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { writeConfig } from '../settings.ts'

const TOKEN_BYTES_MAX = 4096

export function declare(command: Command): void {
  command
    .option('--with-token', 'read the API key from stdin')
    .addHelpText(
      'after',
      '\nThe key is kept in the configuration file, readable by you alone. With --config-profile it becomes another profile.',
    )
}

export async function run(context: Context, given: Given): Promise<void> {
  const { out, settings, signal } = context
  const server = settings.server.value ?? ''
  const key = await readKey(context, given)
  if (!API_KEY_PATTERN.test(key) && !EXECUTION_TOKEN_PATTERN.test(key)) {
    throw new CommandFailure(
      'usage',
      'That is not an API key.',
      'A key begins with "wk-1." and has 64 more characters; the first start of a server prints one.',
    )
  }
  const who = await connect({ server, token: key }).access.whoami({ signal })
  const name = settings.profile.value ?? 'default'
  const { config } = settings
  config.profiles[name] = { ...config.profiles[name], server, api_key: key }
  config.current_profile = name
  await writeConfig(settings.config_path, config)
  await out.show({ server, profile: name, team: who.team }, () => [
    `Logged in to ${server} as ${who.user?.display_name ?? who.kind}, team ${who.team.name} (profile ${name}).`,
  ])
}

async function readKey(context: Context, given: Given): Promise<string> {
  if (given.options.withToken === true)
    return (await readAll(context.stdin, TOKEN_BYTES_MAX, 'The key on stdin')).trim()
  if (context.settings.api_key.from === '--api-key') return context.settings.api_key.value ?? ''
  if (!context.interactive)
    throw new CommandFailure(
      'usage',
      'There is no terminal to ask for the key.',
      'Pass it on stdin: baton login --with-token < key-file',
    )
  return (await askSecret(context, `API key for ${context.settings.server.value}: `)).trim()
}
