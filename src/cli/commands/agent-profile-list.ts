import type { Context } from '../context.ts'
import { paint } from '../output.ts'
import { PROFILES } from '../oz-options.ts'
import { alignColumns } from '../text.ts'

export function declare(): void {}

/** What `--profile` takes: Oz's profiles are here two policies, which are no rows anywhere. */
export async function run({ out }: Context): Promise<void> {
  await out.show(
    { profiles: PROFILES },
    () =>
      alignColumns(
        [['PROFILE', 'NAME', ''].map(paint.dim), ...PROFILES.map(({ id, name, says }) => [id, name, says])],
        out.width,
      ),
    () => [...PROFILES],
  )
}
