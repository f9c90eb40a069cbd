import type { Command } from 'commander'
import { type Context, clientOf } from '../context.ts'
import { paint } from '../output.ts'
import { alignColumns, oneLine } from '../text.ts'

/** What `disable_reason` means to a person. */
const REASONS = {
  ADMIN_DISABLED: 'no worker has a key for it',
  PROVIDER_OUTAGE: 'its provider does not answer',
  OUT_OF_REQUESTS: 'its provider takes no more requests now',
  REQUIRES_UPGRADE: 'its provider asks for another plan',
}

export function declare(_command: Command): void {}

export async function run(context: Context): Promise<void> {
  const answer = await clientOf(context).models.list({ signal: context.signal })
  const { models, default_model_id } = answer
  await context.out.show(
    answer,
    () => {
      const rows = models.map(({ id, display_name, provider, disable_reason, description }) => [
        oneLine(id),
        oneLine(display_name),
        provider === 'UNKNOWN' ? '' : provider.toLowerCase(),
        disable_reason === undefined ? '' : paint.yellow(REASONS[disable_reason]),
        id === default_model_id ? 'default' : oneLine(description ?? ''),
      ])
      return alignColumns([['MODEL', 'NAME', 'PROVIDER', 'STATE', ''].map(paint.dim), ...rows], context.out.width)
    },
    () => models,
  )
}
