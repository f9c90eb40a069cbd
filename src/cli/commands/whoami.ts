import type { Command } from 'commander'
import { API_PREFIX, accessRoutes, WhoAmI } from '../../contract/index.ts'
import { bodyOf, type Context, clientOf } from '../context.ts'
import { oneLine } from '../text.ts'

export function declare(_command: Command): void {}

export async function run(context: Context): Promise<void> {
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

function nameOf({ kind, agent, user, run_id }: WhoAmI): string {
  if (agent !== undefined) return `Agent ${oneLine(agent.name)}`
  if (user !== undefined) return oneLine(user.display_name)
  return run_id === undefined ? kind : `run ${run_id}`
}
