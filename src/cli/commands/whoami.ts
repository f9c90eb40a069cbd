import type { Command } from 'commander'
import { z } from 'zod'
import { API_PREFIX, accessRoutes, WhoAmI } from '../../contract/index.ts'
import { bodyOf, type Context, clientOf, type Given } from '../context.ts'
import { oneLine } from '../text.ts'

export const declare = (command: Command): void =>
  void command.option('--set-name <name>', 'from now on you are called that')

export async function run(context: Context, { options }: Given): Promise<void> {
  const { setName: display_name } = Options.parse(options)
  if (display_name !== undefined)
    await clientOf(context).access.rename({ body: { display_name }, signal: context.signal })
  const body = await bodyOf(
    await clientOf(context).raw('GET', API_PREFIX + accessRoutes.whoami.path, { signal: context.signal }),
  )
  const who = WhoAmI.parse(body)
  const { server, api_key } = context.settings
  const key = who.key === undefined ? '' : ` ${JSON.stringify(oneLine(who.key.name))}, ${who.key.scope}`
  const until = who.key?.expires_at ? `, until ${who.key.expires_at}` : ''
  await context.out.show(body, () => [
    `${nameOf(who)}, ${who.role === undefined ? '' : `${who.role} of `}team ${oneLine(who.team.name)}, at ${server.value}`,
    `by the ${who.by.replaceAll('_', ' ')}${key}${until}, of ${api_key.from}`,
  ])
}

const Options = z.object({ setName: z.string().optional() })

function nameOf({ kind, agent, user, run_id }: WhoAmI): string {
  if (agent !== undefined) return `Agent ${oneLine(agent.name)}`
  if (user !== undefined) return oneLine(user.display_name)
  return run_id === undefined ? kind : `run ${run_id}`
}
