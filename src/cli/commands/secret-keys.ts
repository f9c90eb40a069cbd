import type { Command } from 'commander'
import { z } from 'zod'
import type { NewSecret } from '../../contract/index.ts'
import { askLine, askSecret } from '../ask.ts'
import type { CommandModule } from '../commands.ts'
import { type Context, clientOf } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { declarePlace, declareValue, placeOf, readValue, showSecret } from '../secrets.ts'

type Kind = {
  type: NewSecret['type']
  declare(command: Command): Command
  value(context: Context, options: Record<string, unknown>): Promise<NewSecret['value']>
}

const keep = ({ type, declare, value }: Kind): CommandModule => ({
  declare: (command) =>
    void declarePlace(
      declare(command.argument('<name>', 'what it is called')).option('-d, --description <text>', 'what it is for'),
    ),
  async run(context, { args: [name = ''], options }) {
    const body = { name, type, value: await value(context, options), ...placeOf(options) }
    await showSecret(context, await clientOf(context).secrets.create({ body, signal: context.signal }), 'Kept')
  },
})

export const claudeApiKey = keep({
  type: 'anthropic_api_key',
  declare: declareValue,
  value: (context, options) => readValue(context, options, 'The API key'),
})

export const codexApiKey = keep({
  type: 'openai_api_key',
  declare: (command) => declareValue(command).option('--base-url <url>', 'where it is for, if not api.openai.com'),
  async value(context, options) {
    const api_key = await readValue(context, options, 'The API key')
    return typeof options.baseUrl === 'string' ? { api_key, base_url: options.baseUrl } : api_key
  },
})

export const bedrockApiKey = keep({
  type: 'anthropic_bedrock_api_key',
  declare: (command) =>
    command
      .option('--bedrock-api-key <key>', 'the key; others on this machine can see it: better pipe it in')
      .option('--region <region>', 'region of AWS'),
  async value(context, options) {
    const given = z.string().optional().parse(options.bedrockApiKey)
    const region = await part(context, options.region, '--region')
    return { api_key: given ?? (await readValue(context, options, 'The API key')), region }
  },
})

export const bedrockAccessKey = keep({
  type: 'anthropic_bedrock_access_key',
  declare: (command) =>
    command
      .option('--access-key-id <id>', 'id of the key')
      .option('--secret-access-key <key>', 'the key; others on this machine can see it: better pipe it in')
      .option('--session-token <token>', 'of temporary keys')
      .option('--region <region>', 'region of AWS'),
  async value(context, options) {
    const token = z.string().optional().parse(options.sessionToken)
    const secret = z.string().optional().parse(options.secretAccessKey)
    return {
      access_key_id: await part(context, options.accessKeyId, '--access-key-id'),
      region: await part(context, options.region, '--region'),
      secret_access_key: secret ?? (await secretKey(context, options)),
      ...(token === undefined ? {} : { session_token: token }),
    }
  },
})

const secretKey = (context: Context, options: Record<string, unknown>): Promise<string> =>
  context.interactive
    ? askSecret(context, 'The secret access key (it is not shown):')
    : readValue(context, options, 'The secret access key')

/** Where a person may be asked, what is not given is asked for. */
async function part(context: Context, given: unknown, flag: string): Promise<string> {
  if (typeof given === 'string') return given
  const typed = context.interactive ? (await askLine(context, `${flag.replace(/^--/, '')}:`)).trim() : ''
  if (typed !== '') return typed
  throw new CommandFailure('usage', `${flag} is needed.`)
}
