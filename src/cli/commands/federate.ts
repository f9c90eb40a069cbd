import type { Command } from 'commander'
import { z } from 'zod'
import {
  type IssueToken,
  IDENTITY_TOKEN_SECONDS as SECONDS,
  SUBJECT_CLAIMS,
  SubjectClaim,
} from '../../contract/index.ts'
import { whyOf } from '../../contract/why.ts'
import { actingClient, ownRun } from '../acting.ts'
import type { CommandModule } from '../commands.ts'
import { type Context, clientOf } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { writePrivate } from '../private-file.ts'
import { parseDuration } from '../text.ts'

const declareRun = (command: Command): Command =>
  command
    .option('--run-id <run>', 'the run to speak for; OZ_RUN_ID where absent')
    .option('--duration <duration>', 'how long the token stands', '1h')
    .addOption(
      command.createOption(
        '--subject-template <claim...>',
        `what its subject is made of: ${SUBJECT_CLAIMS.join(', ')}`,
      ),
    )

const Options = z.object({
  runId: z.string().optional(),
  audience: z.string().optional(),
  duration: z.string(),
  subjectTemplate: z.array(z.string()).optional(),
})

export const issueToken: CommandModule = {
  declare: (command) => {
    declareRun(command.requiredOption('--audience <audience>', 'for whom it is')).addHelpText(
      'after',
      '\nOnly inside a run, with the run’s own token (WARP_API_KEY). The token alone is printed.',
    )
  },
  async run(context, { options }) {
    const answer = await issue(context, options, String(options.audience))
    await context.out.show(answer, () => [answer.token])
  },
}

/** What Google's libraries ask an executable for (AIP-4117). */
const GcpEnvironment = z.object({
  GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE: z.string().min(1, 'is empty'),
  GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE: z.enum([
    'urn:ietf:params:oauth:token-type:jwt',
    'urn:ietf:params:oauth:token-type:id_token',
  ]),
  GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE: z.string().optional(),
})

export const issueGcpToken: CommandModule = {
  declare: (command) => void declareRun(command),
  async run(context, { options }) {
    try {
      const env = GcpEnvironment.safeParse(context.env)
      if (!env.success) {
        const name = String(env.error.issues[0]?.path[0])
        throw new CommandFailure('usage', `${name} is not set as Google's libraries set it.`)
      }
      const { token, expires_at } = await issue(context, options, env.data.GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE)
      const answer = JSON.stringify({
        version: 1,
        success: true,
        token_type: env.data.GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE,
        id_token: token,
        expiration_time: Math.floor(Date.parse(expires_at) / 1000),
      })
      const file = env.data.GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE
      if (file) await writePrivate(file, answer)
      context.out.raw(`${answer}\n`)
      return 0
    } catch (error) {
      const message = whyOf(error)
      const code = error instanceof Error && 'code' in error ? String(error.code) : 'failed'
      context.stderr.write(`${JSON.stringify({ version: 1, success: false, code, message })}\n`)
      return 1
    }
  },
}

export const rotateKey: CommandModule = {
  declare: () => {},
  async run(context) {
    const answer = await clientOf(context).federation.rotate({ signal: context.signal })
    await context.out.show(answer, () => [`Key ${answer.kid} is published and signs from ${answer.signs_from} on.`])
  },
}

async function issue(context: Context, options: Record<string, unknown>, audience: string) {
  const o = Options.parse(options)
  const run_id = o.runId ?? ownRun(context)
  if (run_id === undefined || run_id === '')
    throw new CommandFailure(
      'usage',
      'It is not known for which run this speaks.',
      'Inside a run OZ_RUN_ID says it; elsewhere give --run-id.',
    )
  const ms = parseDuration(o.duration)
  const seconds = ms === null ? 0 : Math.floor(ms / 1000)
  if (seconds < SECONDS.min || seconds > SECONDS.max)
    throw new CommandFailure(
      'usage',
      `--duration "${o.duration}" is not between ${SECONDS.min / 60} m and ${SECONDS.max / 3600} h.`,
      'Write it as 15m, 1h or 2h30m.',
    )
  const template = z.array(SubjectClaim).optional().safeParse(o.subjectTemplate)
  if (!template.success)
    throw new CommandFailure(
      'usage',
      'A claim of --subject-template is none.',
      `There are: ${SUBJECT_CLAIMS.join(', ')}.`,
    )
  const body: IssueToken = {
    audience,
    requested_duration_seconds: seconds,
    ...(template.data === undefined ? {} : { subject_template: template.data }),
  }
  return actingClient(context, run_id).federation.issue({ body, signal: context.signal })
}
