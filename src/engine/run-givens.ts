/** What a run is given besides its prompt by clients of Oz: kept as it came, answered, and read for its sandbox. */
import { type Kysely, sql } from 'kysely'
import { z } from 'zod'
import type { Assignment, CreateRun, NewAttachment, Run } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import { readReferred, readSkill } from './oz-messages.ts'

const Givens = z.object({ runtime_skills: z.array(z.string()), referenced_attachments: z.array(z.string()) })

export const hasGivens = ({ runtime_skills, referenced_attachments }: CreateRun): boolean =>
  Boolean(runtime_skills?.length || referenced_attachments?.length)

/** What is referred to, as files of the run. */
export const referredFiles = ({ referenced_attachments }: CreateRun): NewAttachment[] =>
  (referenced_attachments ?? []).map(readReferred)

/** In the transaction that makes the run. */
export async function keepGivens(write: Kysely<Tables>, run_id: string, body: CreateRun): Promise<void> {
  if (!hasGivens(body)) return
  const { runtime_skills, referenced_attachments } = body
  await write
    .insertInto('run_givens')
    .values({
      run_id,
      runtime_skills: runtime_skills ?? [],
      referenced_attachments: referenced_attachments ?? [],
    })
    .execute()
}

/** As a column of the run's row; null: it was given none. */
export const givensOf = sql<unknown>`(select jsonb_build_object('runtime_skills', g.runtime_skills,
  'referenced_attachments', g.referenced_attachments) from run_givens g where g.run_id = runs.run_id)`

/** As they came, where there are some. */
export function renderGivens(row: unknown): Pick<Run, 'runtime_skills' | 'referenced_attachments'> {
  if (row === null) return {}
  const { runtime_skills, referenced_attachments } = Givens.parse(row)
  return {
    ...(runtime_skills.length === 0 ? {} : { runtime_skills }),
    ...(referenced_attachments.length === 0 ? {} : { referenced_attachments }),
  }
}

/** For its sandbox. */
export const renderSkills = (given: string[] | null): Pick<Assignment, 'runtime_skills'> =>
  given === null || given.length === 0 ? {} : { runtime_skills: given.map(readSkill) }
