import type { Command } from 'commander'
import type { Context } from '../context.ts'
import { sameServer, writeConfig } from '../settings.ts'

export function declare(_command: Command): void {}

export async function run(context: Context): Promise<void> {
  const { config, config_path, server } = context.settings
  const forgotten: string[] = []
  for (const [name, profile] of Object.entries(config.profiles)) {
    if (profile.api_key === undefined || !sameServer(profile.server, server.value ?? '')) continue
    delete profile.api_key
    forgotten.push(name)
  }
  if (forgotten.length > 0) await writeConfig(config_path, config)
  const sentence =
    forgotten.length > 0
      ? `Forgot the key for ${server.value} (profile ${forgotten.join(', ')}).`
      : `No key was kept for ${server.value}.`
  await context.out.show({ server: server.value, profiles: forgotten }, () => [sentence])
}
