import { CommandFailure } from './exits.ts'

/**
 * What was read, where none of its keys is `__proto__`: JSON and YAML let anybody write it, the server refuses it, and
 * on the way there it would be lost. `where`: a file or an option.
 */
export function checkKeys<T>(value: T, where: string): T {
  look(value, where, new Set())
  return value
}

/** What YAML names by an alias stands at several places, and may be in itself. */
function look(value: unknown, where: string, seen: Set<unknown>): void {
  if (typeof value !== 'object' || value === null || seen.has(value)) return
  seen.add(value)
  for (const [key, member] of Object.entries(value)) {
    if (key === '__proto__')
      throw new CommandFailure('usage', `${where}: no object may have the key "__proto__".`, 'Call it something else.')
    look(member, where, seen)
  }
}
