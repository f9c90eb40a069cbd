/** Runs that their maker works on: the one call of executions that no runner makes which was given its execution. */
import { z } from 'zod'
import { ExecutionId } from './executions.ts'
import { route } from './route.ts'
import { RunId } from './run-states.ts'
import { CreateRun } from './runs.ts'

export const localRunRoutes = {
  create: route({
    name: 'executions.create',
    method: 'POST',
    path: '/executions',
    tag: 'Runner',
    callers: ['user'],
    summary: 'Register a run that the caller works on itself, where it stands (execution_location LOCAL).',
    body: CreateRun.omit({
      attachments: true,
      runtime_skills: true,
      referenced_attachments: true,
      initial_snapshot_token: true,
      snapshot_disabled: true,
    }),
    answer: z.object({ run_id: RunId, execution_id: ExecutionId, token: z.string() }),
  }),
}
