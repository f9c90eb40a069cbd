/**
 * What the signed-in person may do. The server decides; the page offers nothing that it would refuse, and says why.
 */
import { useQuery } from '@tanstack/react-query'
import { isAtLeast, type Role } from '../../contract/index.ts'
import { useAsking } from './context.tsx'

/** Whether this person may start, answer, change and stop things, or more: with the role `least`. */
export function useMay(least: Role = 'member'): boolean {
  const { queries } = useAsking()
  const { role } = useQuery(queries.whoami()).data ?? {}
  return role !== undefined && isAtLeast(role, least)
}

export const LOOKS_ONLY = 'You may look at everything of this team, and change nothing of it.'
/** Goes on from what would be done. */
export const TAKES_MEMBER = 'takes the role member, which an admin of the team can give you.'
