/**
 * Federation: the server as an OpenID Connect issuer for runs, so that a cloud provider may trust them without a key
 * that lies anywhere. Claims and subjects are those of Oz; the route is ours, for Oz has it in GraphQL alone.
 */
import { z } from 'zod'
import { NoNul } from './config.ts'
import { route } from './route.ts'
import { Timestamp } from './run-states.ts'

/** Names the run that acts, beside whatever key is shown: a JWT of this server, from WARP_WORKLOAD_TOKEN. */
export const WORKLOAD_TOKEN_HEADER = 'x-warp-ambient-workload-token'

export const IDENTITY_TOKEN_SECONDS = { min: 60, usual: 3600, max: 12 * 3600 }

export const SUBJECT_CLAIMS = [
  'principal',
  'scoped_principal',
  'email',
  'teams',
  'environment',
  'agent_name',
  'skill_spec',
  'run_id',
  'host',
] as const
export const SubjectClaim = z.enum(SUBJECT_CLAIMS)
export type SubjectClaim = z.infer<typeof SubjectClaim>

export const IssueToken = z.object({
  audience: NoNul.trim().min(1, 'An audience must not be empty.').max(2048),
  requested_duration_seconds: z
    .int()
    .min(IDENTITY_TOKEN_SECONDS.min)
    .max(IDENTITY_TOKEN_SECONDS.max)
    .default(IDENTITY_TOKEN_SECONDS.usual),
  /** What `sub` is made of, in this order; `principal` where absent or empty. */
  subject_template: z.array(SubjectClaim).max(SUBJECT_CLAIMS.length).optional(),
})
export type IssueToken = z.infer<typeof IssueToken>

const tag = 'Federation'

export const federationRoutes = {
  issue: route({
    name: 'federation.issue',
    method: 'POST',
    path: '/federate/issue-token',
    tag,
    callers: ['execution'],
    summary: 'An OpenID Connect token that says which run its bearer is (ours). Only while the run is at work.',
    body: IssueToken,
    answer: z.object({ token: z.string(), expires_at: Timestamp, issuer: z.string() }),
  }),
  rotate: route({
    name: 'federation.rotate',
    method: 'POST',
    path: '/federate/rotate-key',
    tag,
    callers: ['user'],
    role: 'owner',
    people: true,
    summary:
      'Make another signing key (ours). It is published at once and signs once verifiers had time to learn of it; the ' +
      'old one stays published for as long as a token of it may live.',
    answer: z.object({ kid: z.string(), signs_from: Timestamp }),
  }),
}
