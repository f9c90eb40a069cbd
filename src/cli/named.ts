/** What the commands of environments and agent identities share: each is named by uid or by name. */
import { CommandFailure } from './exits.ts'

export const collect = (value: string, before: string[] = []): string[] => [...before, value]

/** The one that is meant; the uid goes before the name. */
export function pickNamed<T extends { uid: string }>(
  what: string,
  all: T[],
  asked: string,
  nameOf: (one: T) => string,
): T {
  const exact = all.find((one) => one.uid === asked)
  if (exact) return exact
  const found = all.filter((one) => nameOf(one).toLowerCase() === asked.trim().toLowerCase())
  const [only, ...others] = found
  if (only && others.length === 0) return only
  if (only)
    throw new CommandFailure(
      'usage',
      `Several ${what}s are named "${asked}".`,
      `Say which by its id: ${found.map(({ uid }) => uid).join(' or ')}.`,
    )
  throw new CommandFailure(
    'not_found',
    `There is no ${what} "${asked}".`,
    all.length === 0 ? 'There are none yet.' : `There are: ${all.map(nameOf).join(', ')}.`,
  )
}

/** `NAME=VALUE`, as often as given. */
export function readPairs(flag: string, pairs: string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair): [string, string] => {
      const at = pair.indexOf('=')
      if (at <= 0) throw new CommandFailure('usage', `${flag} "${pair}" is not NAME=VALUE.`)
      return [pair.slice(0, at), pair.slice(at + 1)]
    }),
  )
}
