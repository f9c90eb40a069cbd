/** The options that say whose a new thing is. */
import type { Command } from 'commander'
import { z } from 'zod'

export const declareScope = (command: Command): Command =>
  command
    .addOption(command.createOption('--team', "the team's, as it is without this").conflicts('personal'))
    .option('--personal', 'for yourself alone')

const Scoped = z.object({ team: z.boolean().optional(), personal: z.boolean().optional() })

/** As the body of a request says it. */
export function scopeOf(options: Record<string, unknown>): { team?: boolean } {
  const { team, personal } = Scoped.parse(options)
  if (personal === true) return { team: false }
  return team === true ? { team: true } : {}
}
