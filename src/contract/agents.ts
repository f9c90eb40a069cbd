/**
 * Skills as agents: what the repositories of the environments offer to runs as `skill`. Path and fields are those of
 * the public Oz v1 API; `repositories` is ours.
 */
import { z } from 'zod'
import { QueryBoolean, route } from './route.ts'
import { Timestamp } from './run-states.ts'

export const SkillVariant = z.object({
  /** `owner/repo:path/of/SKILL.md`; names it as `skill` of a run. */
  id: z.string(),
  description: z.string(),
  /** The instructions. */
  base_prompt: z.string(),
  source: z.object({ owner: z.string(), name: z.string(), skill_path: z.string() }),
  /** Those that have its repository. */
  environments: z.array(z.object({ uid: z.string(), name: z.string() })),
  last_run_timestamp: Timestamp.nullable(),
  /** Why it cannot be used. */
  error: z.string().optional(),
})
export type SkillVariant = z.infer<typeof SkillVariant>

export const SkillAgent = z.object({ name: z.string(), variants: z.array(SkillVariant) })
export type SkillAgent = z.infer<typeof SkillAgent>

export const SkillRepository = z.object({
  /** `owner/repo`, with the ref where the environment names one. */
  repository: z.string(),
  environments: z.array(z.object({ uid: z.string(), name: z.string() })),
  /** When what is answered was read; null: never. */
  read_at: Timestamp.nullable(),
  /** Why the last reading failed; what was read before is answered all the same. */
  error: z.string().optional(),
})
export type SkillRepository = z.infer<typeof SkillRepository>

export const ListAgents = z.object({
  repo: z
    .string()
    .regex(/^[^/\s:]{1,100}\/[^/\s:]{1,100}$/, 'Write a repository as owner/repo.')
    .optional(),
  refresh: QueryBoolean.default(false),
  sort_by: z.enum(['name', 'last_run']).default('name'),
  include_malformed_skills: QueryBoolean.default(false),
})
export type ListAgents = z.infer<typeof ListAgents>

export const agentRoutes = {
  list: route({
    name: 'agents.list',
    method: 'GET',
    path: '/agent',
    tag: 'Skills',
    callers: ['user'],
    summary:
      "The skills in the environments' repositories. What was read in the last ten minutes is answered at once, older " +
      'things too while they are read again; `refresh` waits for that.',
    query: ListAgents,
    answer: z.object({ agents: z.array(SkillAgent), repositories: z.array(SkillRepository) }),
  }),
}
