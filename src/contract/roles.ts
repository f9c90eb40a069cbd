/** Roles and scopes: what a person may do in a team, and whose a thing is. */
import { z } from 'zod'

/** Each may do what those before it may: read; make and act; manage the team; manage its owners. */
export const ROLES = ['viewer', 'member', 'admin', 'owner'] as const
export const Role = z.enum(ROLES)
export type Role = z.infer<typeof Role>

export const isAtLeast = (role: Role, least: Role): boolean => ROLES.indexOf(role) >= ROLES.indexOf(least)
export const lesserRole = (a: Role, b: Role): Role => (isAtLeast(a, b) ? b : a)

/** Whose a thing is: a person's, seen by nobody else, or the team's. */
export const Scope = z.object({ type: z.enum(['User', 'Team']), uid: z.string().optional() })
export type Scope = z.infer<typeof Scope>
