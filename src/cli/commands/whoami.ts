import type { Command } from 'commander'
import { API_PREFIX, accessRoutes, WhoAmI } from '../../contract/index.ts'
import { bodyOf, type Context, clientOf } from '../context.ts'

export function declare(_command: Command): void {}

export async function run(context: Context): Promise<void> {
  const body = await bodyOf(
    await clientOf(context).raw('GET', API_PREFIX + accessRoutes.whoami.path, { signal: context.signal }),
  )
  const who = WhoAmI.parse(body)
  const name = who.user?.display_name ?? (who.run_id === undefined ? who.kind : `run ${who.run_id}`)
  const { server, api_key } = context.settings
  await context.out.show(body, () => [
    `${name}, team ${who.team.name}, at ${server.value}`,
    `by the ${who.by.replaceAll('_', ' ')} of ${api_key.from}`,
  ])
}
