/** The contract: what can be asked, and every shape that crosses a boundary. It knows nothing of ours. */
export * from './access.ts'
export * from './artifacts.ts'
export * from './batches.ts'
export * from './config.ts'
export * from './environments.ts'
export * from './events.ts'
export * from './executions.ts'
export * from './faults.ts'
export * from './harness-support.ts'
export * from './identities.ts'
export * from './messages.ts'
export * from './modes.ts'
export * from './plans.ts'
export * from './roles.ts'
export * from './repositories.ts'
export * from './route.ts'
export * from './runs.ts'
export * from './skills.ts'
export * from './surroundings.ts'
export * from './team.ts'
export * from './transcripts.ts'
export * from './trees.ts'
export * from './usage.ts'
export * from './workers.ts'

import { accessRoutes } from './access.ts'
import { artifactRoutes } from './artifacts.ts'
import { batchRoutes } from './batches.ts'
import { environmentRoutes } from './environments.ts'
import { eventRoutes } from './events.ts'
import { executionRoutes } from './executions.ts'
import { harnessSupportRoutes } from './harness-support.ts'
import { identityRoutes } from './identities.ts'
import { messageRoutes } from './messages.ts'
import { followUpRoutes, planRoutes } from './plans.ts'
import { runRoutes } from './runs.ts'
import { teamRoutes } from './team.ts'
import { transcriptRoutes } from './transcripts.ts'
import { treeRoutes } from './trees.ts'
import { workerRoutes } from './workers.ts'

/** Every route there is. The server refuses to start with one of these unanswered. */
export const routes = {
  access: accessRoutes,
  runs: runRoutes,
  executions: executionRoutes,
  transcripts: transcriptRoutes,
  events: eventRoutes,
  workers: workerRoutes,
  messages: messageRoutes,
  trees: treeRoutes,
  team: teamRoutes,
  harnessSupport: harnessSupportRoutes,
  plans: planRoutes,
  followUps: followUpRoutes,
  batches: batchRoutes,
  artifacts: artifactRoutes,
  environments: environmentRoutes,
  identities: identityRoutes,
}
