/**
 * The public Oz v1 wire format, written from its description alone and from nothing of ours: required fields, types,
 * nullability and formats exactly; what is optional may be absent, and null only where the description says so. Fields
 * beyond these are allowed, as clients allow them.
 */
import { z } from 'zod'

export const Time = z.iso.datetime({ offset: true })
export const Uuid = z.uuid()
export const EnvironmentUid = z.string().regex(/^[A-Za-z0-9]{22}$/)
export const Texts = z.record(z.string(), z.string())

// 1.1

export const CODES = {
  invalid_request: [400],
  integration_not_configured: [400],
  authentication_required: [401],
  external_authentication_required: [401],
  not_authorized: [403],
  feature_not_available: [403],
  insufficient_credits: [403],
  budget_exceeded: [403],
  integration_disabled: [403],
  content_policy_violation: [403],
  resource_not_found: [404],
  conflict: [409],
  operation_not_supported: [422],
  environment_setup_failed: [500],
  resource_unavailable: [429, 500],
  internal_error: [500],
} as const
const ErrorCode = z.enum(Object.keys(CODES) as [keyof typeof CODES, ...(keyof typeof CODES)[]])

export const Problem = z.object({
  type: z
    .string()
    .regex(/^https:\/\/docs\.warp\.dev\/reference\/api-and-sdk\/troubleshooting\/errors\/[a-z_]+$/)
    .refine((type) => ErrorCode.safeParse(type.split('/').at(-1)).success, 'ends with a code of the table'),
  title: z.string().min(1),
  status: z.int(),
  error: z.string().min(1),
  detail: z.string().optional(),
  instance: z.string().optional(),
  retryable: z.boolean().optional(),
  trace_id: z.string().optional(),
  auth_url: z.string().optional(),
  provider: z.string().optional(),
})

// 6

export const RunState = z.enum([
  'QUEUED',
  'PENDING',
  'CLAIMED',
  'INPROGRESS',
  'SUCCEEDED',
  'FAILED',
  'BLOCKED',
  'ERROR',
  'CANCELLED',
])
const RunSource = z.enum([
  'LINEAR',
  'API',
  'SLACK',
  'LOCAL',
  'SCHEDULED_AGENT',
  'WEB_APP',
  'GITHUB_ACTION',
  'CLOUD_MODE',
  'CLI',
  'JIRA',
  'SELF_IMPROVEMENT',
  'GITHUB_WEBHOOK',
  'GITLAB_WEBHOOK',
  'AUTOFIX',
  'RUN_SCORER',
  'ORCHESTRATION',
])

export const UserProfile = z.object({
  type: z.enum(['user', 'service_account']),
  uid: z.string().min(1),
  display_name: z.string().optional(),
  email: z.string().optional(),
  photo_url: z.string().optional(),
})
export const Scope = z.object({ type: z.enum(['User', 'Team']), uid: z.string().optional() })

// 1.5

const exactlyOne = (value: Record<string, unknown>): boolean =>
  ['warp_id', 'command', 'url'].filter((name) => value[name] !== undefined).length === 1
export const McpServer = z
  .object({
    warp_id: z.string().optional(),
    command: z.string().optional(),
    args: z.array(z.string()).optional(),
    env: Texts.optional(),
    url: z.string().optional(),
    headers: Texts.optional(),
  })
  .refine(exactlyOne, 'exactly one of warp_id, command and url')

export const Harness = z.object({
  type: z.string(),
  model_id: z.string().optional(),
  reasoning_level: z.string().optional(),
})
export const HarnessAuthSecrets = z.object({
  claude_auth_secret_name: z.string().optional(),
  codex_auth_secret_name: z.string().optional(),
})
export const InferenceProviders = z.object({
  aws: z
    .object({ disabled: z.boolean().optional(), region: z.string().optional(), role_arn: z.string().optional() })
    .optional(),
})
export const Store = z.object({
  uid: z.string(),
  access: z.enum(['read_write', 'read_only']),
  instructions: z.string().min(1),
})

export const AgentConfig = z
  .object({
    name: z.string().optional(),
    model_id: z.string().optional(),
    base_prompt: z.string().optional(),
    environment_id: EnvironmentUid.optional(),
    runner_id: z.string().optional(),
    skill_spec: z.string().optional(),
    skills: z.array(z.string()).optional(),
    mcp_servers: z.record(z.string(), McpServer).optional(),
    computer_use_enabled: z.boolean().optional(),
    computer_use_model_id: z.string().optional(),
    idle_timeout_minutes: z.int().min(1).max(60).optional(),
    worker_host: z.string().optional(),
    harness: Harness.nullish(),
    harness_auth_secrets: HarnessAuthSecrets.optional(),
    inference_providers: InferenceProviders.optional(),
    memory_stores: z.array(Store).optional(),
    credential_strategy: z.enum(['CREATOR', 'EXECUTOR']).nullish(),
    session_sharing: z.object({ public_access: z.enum(['VIEWER', 'EDITOR']).optional() }).optional(),
  })
  .refine(({ skills, skill_spec }) => !skills?.length || skill_spec === skills[0], 'skill_spec echoes the first skill')

// 1.4

export const CreatedRun = z
  .object({ run_id: Uuid, task_id: Uuid, state: RunState, at_capacity: z.boolean().optional() })
  .refine(({ run_id, task_id }) => run_id === task_id, 'task_id is run_id')

// 1.8

const Costs = z.object({
  input_cost_usd: z.number(),
  output_cost_usd: z.number(),
  input_cache_read_cost_usd: z.number(),
  input_cache_write_cost_usd: z.number(),
})
const ModelUsage = z.record(
  z.string(),
  z.object({
    cost_usd: Costs,
    token_count: z.object({
      input: z.number(),
      output: z.number(),
      input_cache_read: z.number(),
      input_cache_write: z.number(),
    }),
    web_search_count: z.number(),
    web_search_cost_usd: z.number(),
  }),
)
export const RequestUsage = z.object({
  inference_cost: z.number().optional(),
  compute_cost: z.number().optional(),
  platform_cost: z.number().optional(),
  inference_cost_usd: z.number().optional(),
  compute_cost_usd: z.number().optional(),
  platform_cost_usd: z.number().optional(),
  total_tokens: z.number().optional(),
  inference_cost_breakdown_usd: Costs.optional(),
  usage_by_category: z
    .record(
      z.string(),
      z.object({
        platform_usage_usd: z.number(),
        byok_inference_usage: ModelUsage.optional(),
        custom_endpoint_inference_usage: ModelUsage.optional(),
        direct_api_inference_usage: ModelUsage.optional(),
      }),
    )
    .optional(),
})

// 1.9

const made = <T extends string, D extends z.ZodType>(artifact_type: T, data: D) =>
  z.object({ artifact_type: z.literal(artifact_type), created_at: Time, data })

export const ArtifactItem = z.discriminatedUnion('artifact_type', [
  made(
    'PLAN',
    z.object({
      document_uid: z.string(),
      artifact_uid: z.string().optional(),
      notebook_uid: z.string().optional(),
      url: z.string().optional(),
      title: z.string().optional(),
    }),
  ),
  made('PULL_REQUEST', z.object({ url: z.string(), branch: z.string() })),
  made('SCREENSHOT', z.object({ artifact_uid: z.string(), mime_type: z.string(), description: z.string().optional() })),
  made(
    'FILE',
    z.object({
      artifact_uid: z.string(),
      filepath: z.string(),
      filename: z.string(),
      mime_type: z.string(),
      description: z.string().optional(),
      size_bytes: z.number().optional(),
      title: z.string().optional(),
    }),
  ),
  made(
    'EXTERNAL_REFERENCE',
    z.object({
      reference_type: z.string(),
      url: z.string(),
      title: z.string().optional(),
      metadata: z.record(z.string(), z.unknown()).optional(),
    }),
  ),
])

const one = { artifact_uid: z.string(), created_at: Time }
const signed = { download_url: z.url(), expires_at: Time, content_type: z.string() }
export const Artifact = z.discriminatedUnion('artifact_type', [
  z.object({
    ...one,
    artifact_type: z.literal('PLAN'),
    data: z.object({
      document_uid: z.string(),
      notebook_uid: z.string(),
      url: z.string().optional(),
      title: z.string().optional(),
      content: z.string(),
      content_type: z.string(),
    }),
  }),
  z.object({
    ...one,
    artifact_type: z.literal('SCREENSHOT'),
    data: z.object({ ...signed, description: z.string().optional() }),
  }),
  z.object({
    ...one,
    artifact_type: z.literal('FILE'),
    // The command line wants `filepath` of who is known.
    data: z.object({
      ...signed,
      filename: z.string(),
      filepath: z.string(),
      description: z.string().optional(),
      size_bytes: z.number().optional(),
      title: z.string().optional(),
    }),
  }),
])

// 1.6, 1.7

export const RunItem = z
  .object({
    run_id: Uuid,
    task_id: Uuid,
    title: z.string(),
    prompt: z.string(),
    state: RunState,
    created_at: Time,
    updated_at: Time,
    started_at: Time.nullish(),
    run_time: z.iso.duration().optional(),
    status_message: z
      .object({
        message: z.string(),
        error_code: ErrorCode.optional(),
        retryable: z.boolean().optional(),
        session_debug_until: Time.optional(),
      })
      .optional(),
    source: RunSource.optional(),
    execution_location: z.enum(['LOCAL', 'REMOTE']).optional(),
    schedule: z.object({ schedule_id: z.string(), schedule_name: z.string(), cron_schedule: z.string() }).optional(),
    session_id: Uuid.optional(),
    session_link: z.string().optional(),
    trigger_url: z.string().optional(),
    creator: UserProfile.optional(),
    executor: UserProfile.optional(),
    request_usage: RequestUsage.optional(),
    agent_config: AgentConfig.optional(),
    agent_config_snapshot: z.never('a second name of agent_config drops the run').optional(),
    agent_skill: z
      .object({
        name: z.string().optional(),
        description: z.string().optional(),
        full_path: z.string().optional(),
        bundled_skill_id: z.string().optional(),
      })
      .optional(),
    conversation_id: z.string().optional(),
    parent_run_id: z.string().optional(),
    is_sandbox_running: z.boolean(),
    is_run_type_cancellable: z.boolean().optional(),
    artifacts: z.array(ArtifactItem).optional(),
    scope: Scope.optional(),
    metadata: Texts.optional(),
    last_event_sequence: z.int().nullish(),
    children: z.array(Uuid).optional(),
    // Private, opaque: handed back as they came.
    runtime_skills: z.array(z.string()).optional(),
    referenced_attachments: z.array(z.string()).optional(),
  })
  .refine(({ run_id, task_id }) => run_id === task_id, 'task_id is run_id')
  .refine(
    ({ session_link, session_id }) => session_link === undefined || session_link.split('/').at(-1) === session_id,
    'the last part of session_link is session_id',
  )
export const PageInfo = z.object({ has_next_page: z.boolean(), next_cursor: z.string().optional() })
export const RunList = z.object({ runs: z.array(RunItem), page_info: PageInfo })

// 1.12, 1.13

export const HandoffAttachments = z.object({
  attachments: z.array(
    z.object({
      attachment_id: z.string(),
      filename: z.string(),
      download_url: z.url(),
      mime_type: z.string().optional(),
    }),
  ),
})

const Category = z.enum(['command', 'files', 'search', 'integration', 'documents', 'computer', 'review', 'skill'])
const Block = z.discriminatedUnion('type', [
  z.object({ type: z.literal('text'), text: z.string(), message_id: z.string().optional() }),
  z.object({ type: z.literal('action'), id: z.string(), category: Category, name: z.string(), input: z.json() }),
  z.object({
    type: z.literal('action_result'),
    action_id: z.string(),
    category: Category,
    name: z.string(),
    state: z.enum(['running', 'completed', 'failed', 'denied']),
    output: z.json(),
  }),
  z.object({ type: z.literal('event'), name: z.string(), data: z.json() }),
])
const Message = z.object({
  message_ids: z.array(z.string()).optional(),
  request_id: z.string().optional(),
  role: z.enum(['user', 'assistant', 'tool', 'system']),
  timestamp: Time.optional(),
  content: z.array(Block),
})
const Step = z.object({
  id: z.string(),
  description: z.string().optional(),
  summary: z.string().optional(),
  started_at: Time.optional(),
  completed_at: Time.optional(),
  messages: z.array(Message),
  get steps(): z.ZodArray<typeof Step> {
    return z.array(Step)
  },
})
export const Conversation = z.object({ conversation_id: z.string().min(1), steps: z.array(Step) })
export const SessionRedirect = z.object({ conversation_id: z.string().optional() })
export const ConversationRedirect = z.object({ session_id: z.string().optional() })

// 2.1, 2.2

export const SentMessages = z.object({ message_ids: z.array(z.string().min(1)) })
const message_header = {
  message_id: z.string(),
  sender_run_id: z.string(),
  subject: z.string(),
  sent_at: Time,
  delivered_at: Time.nullable(),
  read_at: Time.nullable(),
}
export const MessageHeaders = z.array(z.object(message_header))
export const ReadMessage = z.object({ ...message_header, body: z.string() })

export const Event = z.object({
  event_type: z.string().min(1),
  run_id: z.string(),
  ref_id: z.string().nullable(),
  execution_id: z.string().nullable(),
  occurred_at: Time,
  sequence: z.int().positive(),
})
export const Events = z.array(Event)
export const Sequence = z.object({ sequence: z.int() })

// 2.3, 2.4

export const Workers = z.object({
  workers: z.array(
    z.object({
      worker_host: z.string(),
      connection_count: z.int().nonnegative(),
      connected_at: Time,
      last_seen_at: Time,
    }),
  ),
})
const FieldValue = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('static'), value: z.string() }),
  z.object({ kind: z.literal('content_crc32c') }),
  z.object({ kind: z.literal('content_data') }),
])
export const UploadTarget = z.object({
  url: z.url(),
  method: z.string().regex(/^(PUT|POST)$/i),
  headers: Texts.nullable(),
  fields: z.array(z.object({ name: z.string(), value: FieldValue })).nullish(),
})

// 2.5

export const ResolvedPrompt = z.object({
  prompt: z.string(),
  system_prompt: z.string().optional(),
  resumption_prompt: z.string().optional(),
  context: z.string().optional(),
})

export const PreparedAttachments = z.object({
  attachments: z.array(
    z.object({ attachment_id: z.string(), upload_url: z.url(), upload_target: UploadTarget.optional() }),
  ),
})
export const DownloadableAttachments = z.object({
  attachments: z.array(z.object({ attachment_id: z.string(), download_url: z.url() })),
})
