/** The contract: what can be asked, and every shape that crosses a boundary. It knows nothing of ours. */
export * from './access.ts'
export * from './agents.ts'
export * from './api-keys.ts'
export * from './artifacts.ts'
export * from './attachments.ts'
export * from './batches.ts'
export * from './cloud-providers.ts'
export * from './config.ts'
export * from './conversations.ts'
export * from './cron.ts'
export * from './entry-of.ts'
export * from './environments.ts'
export * from './events.ts'
export * from './executions.ts'
export * from './faults.ts'
export * from './federation.ts'
export * from './files.ts'
export * from './handoff.ts'
export * from './harness-support.ts'
export * from './identities.ts'
export * from './listed-artifacts.ts'
export * from './local-runs.ts'
export * from './mcp-secrets.ts'
export * from './memory.ts'
export * from './messages.ts'
export * from './models.ts'
export * from './modes.ts'
export * from './plans.ts'
export * from './redaction.ts'
export * from './repositories.ts'
export * from './roles.ts'
export * from './route.ts'
export * from './run-states.ts'
export * from './runs.ts'
export * from './schedules.ts'
export * from './secrets.ts'
export * from './skills.ts'
export * from './surroundings.ts'
export * from './task-assignments.ts'
export * from './team.ts'
export * from './team-ends.ts'
export * from './teams.ts'
export * from './tool-categories.ts'
export * from './transcripts.ts'
export * from './trees.ts'
export * from './uploads.ts'
export * from './usage.ts'
export * from './workers.ts'

import { accessRoutes } from './access.ts'
import { agentRoutes } from './agents.ts'
import { apiKeyRoutes } from './api-keys.ts'
import { artifactRoutes } from './artifacts.ts'
import { attachmentRoutes } from './attachments.ts'
import { batchRoutes } from './batches.ts'
import { conversationRoutes, harnessConversationRoutes } from './conversations.ts'
import { environmentRoutes } from './environments.ts'
import { eventRoutes } from './events.ts'
import { executionRoutes } from './executions.ts'
import { federationRoutes } from './federation.ts'
import { handoffRoutes } from './handoff.ts'
import { harnessSupportRoutes } from './harness-support.ts'
import { identityRoutes } from './identities.ts'
import { localRunRoutes } from './local-runs.ts'
import { memoryRoutes } from './memory.ts'
import { messageRoutes } from './messages.ts'
import { modelRoutes } from './models.ts'
import { followUpRoutes, planRoutes } from './plans.ts'
import { runRoutes } from './runs.ts'
import { scheduleRoutes } from './schedules.ts'
import { secretRoutes } from './secrets.ts'
import { teamRoutes } from './team.ts'
import { teamEndRoutes } from './team-ends.ts'
import { teamsRoutes } from './teams.ts'
import { transcriptRoutes } from './transcripts.ts'
import { treeRoutes } from './trees.ts'
import { workerRoutes } from './workers.ts'

/** Every route there is. The server refuses to start with one of these unanswered. */
export const routes = {
  access: accessRoutes,
  runs: runRoutes,
  executions: { ...executionRoutes, ...localRunRoutes },
  transcripts: transcriptRoutes,
  conversations: conversationRoutes,
  harnessConversations: harnessConversationRoutes,
  events: eventRoutes,
  workers: workerRoutes,
  messages: messageRoutes,
  trees: treeRoutes,
  team: teamRoutes,
  teams: { ...teamsRoutes, ...teamEndRoutes },
  apiKeys: apiKeyRoutes,
  harnessSupport: harnessSupportRoutes,
  plans: planRoutes,
  followUps: followUpRoutes,
  batches: batchRoutes,
  artifacts: artifactRoutes,
  attachments: attachmentRoutes,
  handoff: handoffRoutes,
  environments: environmentRoutes,
  identities: identityRoutes,
  secrets: secretRoutes,
  federation: federationRoutes,
  memory: memoryRoutes,
  schedules: scheduleRoutes,
  agents: agentRoutes,
  models: modelRoutes,
}
