/** The public Oz v1 wire format of what runs name: skills, environments, schedules, models, agent identities. As `wire.ts`. */
import { z } from 'zod'
import {
  AgentConfig,
  EnvironmentUid,
  Harness,
  HarnessAuthSecrets,
  InferenceProviders,
  McpServer,
  RunState,
  Scope,
  Store,
  Texts,
  Time,
  UserProfile,
} from './wire.ts'

// 1.3

const SkillVariant = z.object({
  id: z.string().regex(/^[^/]+\/[^/:]+:.+$/),
  description: z.string(),
  base_prompt: z.string(),
  source: z.object({
    owner: z.string(),
    name: z.string(),
    skill_path: z.string(),
    worker_host: z.string().optional(),
  }),
  environments: z.array(z.object({ uid: z.string(), name: z.string() })),
  last_run_timestamp: Time.nullish(),
  error: z.string().optional(),
})
export const AgentList = z.object({ agents: z.array(z.object({ name: z.string(), variants: z.array(SkillVariant) })) })

// 1.15

export const CloudEnvironmentConfig = z.object({
  name: z.string().optional(),
  description: z.string().max(240).nullish(),
  docker_image: z.string().optional(),
  github_repos: z.array(z.object({ owner: z.string(), repo: z.string() })).optional(),
  setup_commands: z.array(z.string()).optional(),
  providers: z
    .object({
      gcp: z
        .object({
          project_number: z.string(),
          workload_identity_federation_pool_id: z.string(),
          workload_identity_federation_provider_id: z.string(),
          service_account_email: z.string().optional(),
        })
        .optional(),
      aws: z.object({ role_arn: z.string() }).optional(),
    })
    .optional(),
  failure_session_retention_minutes: z.int().nullish(),
})
export const EnvironmentList = z.object({
  environments: z.array(
    z.object({
      uid: EnvironmentUid,
      config: CloudEnvironmentConfig,
      last_updated: Time,
      setup_failed: z.boolean(),
      last_task_run_timestamp: Time.nullish(),
      last_task_created: z
        .object({
          id: z.string(),
          title: z.string(),
          state: RunState,
          created_at: Time,
          updated_at: Time,
          started_at: Time.optional(),
        })
        .optional(),
      scope: Scope.optional(),
      creator: UserProfile.optional(),
      last_editor: UserProfile.optional(),
    }),
  ),
})

// 1.14

export const Schedule = z.object({
  id: z.string(),
  name: z.string(),
  cron_schedule: z.string(),
  enabled: z.boolean(),
  prompt: z.string(),
  created_at: Time,
  updated_at: Time,
  last_spawn_error: z.string().nullish(),
  agent_config: AgentConfig.optional(),
  agent_uid: z.string().optional(),
  environment: CloudEnvironmentConfig.optional(),
  created_by: UserProfile.optional(),
  updated_by: UserProfile.optional(),
  history: z.object({ last_ran: Time.nullish(), next_run: Time.nullish() }).optional(),
  scope: Scope.optional(),
  metadata: Texts.optional(),
})
export const ScheduleList = z.object({ schedules: z.array(Schedule) })
export const ScheduleDeleted = z.object({ success: z.boolean() })

// 1.16

export const ModelList = z
  .object({
    default_model_id: z.string(),
    models: z.array(
      z.object({
        id: z.string(),
        display_name: z.string(),
        provider: z.enum(['OPENAI', 'ANTHROPIC', 'GOOGLE', 'UNKNOWN']),
        vision_supported: z.boolean(),
        description: z.string().optional(),
        reasoning_level: z.string().optional(),
        disable_reason: z.enum(['PROVIDER_OUTAGE', 'OUT_OF_REQUESTS', 'ADMIN_DISABLED', 'REQUIRES_UPGRADE']).optional(),
      }),
    ),
  })
  .refine(({ models, default_model_id }) => models.some(({ id }) => id === default_model_id), 'lists its default')

// 1.17

export const Agent = z.object({
  uid: z.string(),
  name: z.string(),
  available: z.boolean(),
  created_at: Time,
  updated_at: Time,
  secrets: z.array(z.object({ name: z.string() })),
  skills: z.array(z.string()),
  memory: z.object({
    attached_stores: z.array(Store),
    auto_memory: z.object({
      enabled: z.boolean(),
      store: Store.extend({
        owner_type: z.enum(['user', 'service_account', 'team']),
        owner_uid: z.string(),
        description: z.string().optional(),
      }).optional(),
    }),
  }),
  default_runner_uid: z.string(),
  // The Rust client has no default for these two.
  description: z.string().nullable(),
  base_model: z.string().nullable(),
  prompt: z.string().nullish(),
  base_harness: z.string().optional(),
  harness: Harness.optional(),
  harness_auth_secrets: HarnessAuthSecrets.optional(),
  environment_id: z.string().optional(),
  worker_host: z.string().optional(),
  mcp_servers: z.record(z.string(), McpServer).optional(),
  credential_strategy: z.enum(['CREATOR', 'EXECUTOR']).optional(),
  factory_uid: z.string().nullish(),
  agent_type: z.enum(['FOREMAN', 'TRIAGE', 'SPEC', 'IMPLEMENT', 'REVIEW', 'VERIFY', 'CUSTOM']).nullish(),
  inference_providers: InferenceProviders.optional(),
  on_behalf_of_enabled: z.boolean().optional(),
})
export const AgentIdentities = z.object({ agents: z.array(Agent) })

// 2.3

export const MemoryStore = z.object({
  uid: z.string(),
  owner_type: z.enum(['user', 'service_account', 'team']),
  owner_uid: z.string(),
  description: z.string().nullable(),
  created_at: Time,
  updated_at: Time,
})
export const MemoryStores = z.object({ memory_stores: z.array(MemoryStore) })
export const StoreAgents = z.object({ agents: z.array(Store.extend({ name: z.string() })) })
export const Memories = z.object({
  memories: z.array(
    z.object({
      uid: z.string(),
      content: z.string(),
      version_id: z.string(),
      source: z.string(),
      source_id: z.string().nullable(),
      source_run_id: z.string().nullable(),
      is_tombstoned: z.boolean(),
      tombstoned_at: Time.nullable(),
      created_at: Time,
      updated_at: Time,
    }),
  ),
})
export const WrittenMemory = z.object({ memory_id: z.string(), version_id: z.string() })
export const MemoryVersions = z.object({
  versions: z.array(
    z.object({
      uid: z.string(),
      version: z.int(),
      content: z.string(),
      reason: z.string().nullable(),
      created_at: Time,
    }),
  ),
})
