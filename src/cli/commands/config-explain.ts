import type { Command } from 'commander'
import { findBlobs, nameOfBlobs } from '../blob-place.ts'
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
  rows.push(...blobRows(context))
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

type Row = { name: SettingName; value: string | null; from: string }

/** Of a server on this machine. A secret key is not shown, not even in part. */
function blobRows({ env, cwd }: Context): Row[] {
  const place = findBlobs({ env, cwd, data_dir: dataFolder(env) })
  const row = (name: string, value: string | null, from: string) => ({ name: name as SettingName, value, from })
  const rows = [row('blobs', nameOfBlobs(place), place.from)]
  if (place.kind === 'folder') return rows
  const fromFirst = (...names: string[]) => names.find((name) => env[name]) ?? 'default'
  return [
    ...rows,
    row('s3_endpoint', place.s3.endpoint ?? 'AWS', fromFirst('AWS_ENDPOINT_URL_S3', 'AWS_ENDPOINT_URL')),
    row('s3_region', place.s3.region, fromFirst('AWS_REGION', 'AWS_DEFAULT_REGION')),
    row('s3_access_key_id', `${place.s3.access_key_id.slice(0, 4)}…`, 'AWS_ACCESS_KEY_ID'),
    row('s3_secret_access_key', 'set', 'AWS_SECRET_ACCESS_KEY'),
  ]
}

/** Enough to tell two keys apart. */
function hide(key: string | undefined): string | null {
  return key === undefined ? null : `${key.slice(0, 7)}…`
}
