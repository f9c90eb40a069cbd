import type { Command } from 'commander'
import type { Context } from '../context.ts'
import { paint } from '../output.ts'
import { dataFolder, ENVIRONMENT, type SettingName } from '../settings.ts'
import { alignColumns } from '../text.ts'

export function declare(command: Command): void {
  command.addHelpText(
    'after',
    '\nA flag goes before the environment, then .baton.json of the project, then the profile, then the default.',
  )
}

export async function run(context: Context): Promise<void> {
  const { settings } = context
  const rows = (Object.keys(ENVIRONMENT) as SettingName[]).map((name) => {
    const { value, from } = settings[name]
    return {
      name,
      value: name === 'api_key' ? hide(value) : (value ?? null),
      from: value === undefined ? 'not set' : from,
    }
  })
  rows.push({
    name: 'config_file' as SettingName,
    value: settings.config_path,
    from: context.env.BATON_CONFIG ? 'BATON_CONFIG' : 'default',
  })
  rows.push({
    name: 'data_dir' as SettingName,
    value: dataFolder(context.env),
    from: context.env.BATON_DATA_DIR ? 'BATON_DATA_DIR' : 'default',
  })
  await context.out.show(
    rows,
    () =>
      alignColumns([
        ['SETTING', 'VALUE', 'FROM'].map(paint.dim),
        ...rows.map((row) => [row.name, row.value ?? '-', row.from]),
      ]),
    () => rows,
  )
}

/** Enough to tell two keys apart. */
function hide(key: string | undefined): string | null {
  return key === undefined ? null : `${key.slice(0, 7)}…`
}
