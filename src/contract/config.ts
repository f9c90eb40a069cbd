/**
 * How a run is to be worked on: the Oz `AmbientAgentConfig`, with a few fields of ours.
 *
 * Unknown fields are dropped, never refused: newer clients send more than we know.
 */
import { z } from 'zod'
import { entryOf } from './entry-of.ts'
import { SkillSpec } from './skills.ts'

/** Built-in harness names and their other spellings. Any other name must be configured on the worker. */
export const HARNESS_ALIASES: Record<string, string> = {
  oz: 'baton',
  baton: 'baton',
  claude: 'claude',
  'claude-code': 'claude',
  codex: 'codex',
  gemini: 'gemini',
  opencode: 'opencode',
  'open-code': 'opencode',
  command: 'command',
}

export const HarnessName = z
  .string()
  .min(1)
  .max(64)
  .regex(/^[a-z0-9][a-z0-9_-]*$/, 'A harness name is lower case letters, digits, - and _.')

/** Forms send what nobody filled in as empty text. */
const orAbsent = <T extends z.ZodType>(field: T) => z.preprocess((v) => (v === '' ? undefined : v), field.optional())

export const HarnessChoice = z.object({
  type: z.preprocess((v) => (v === null || v === '' ? undefined : v), HarnessName.default('oz')),
  model_id: z.string().max(256).nullish(),
  reasoning_level: z.string().max(64).nullish(),
})
export type HarnessChoice = z.infer<typeof HarnessChoice>

export const NoNul = z.string().refine((s) => !s.includes('\0'), 'must not contain a NUL byte')

/** `url`: https, ssh or, where the worker allows it, the path of a repository on the worker's own disk. */
export const Repository = z.object({
  url: NoNul.min(1).max(2048),
  /** Branch, tag or commit; the remote's default branch where absent. */
  ref: NoNul.max(256).optional(),
  /** Folder below the workspace; the repository's own name where absent. */
  directory: NoNul.max(256).optional(),
})
export type Repository = z.infer<typeof Repository>

export const VariableName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'A variable name is letters, digits and _, not starting with a digit.')

/** Where a run happens, given with the run itself: instead of an environment, or on top of one. */
export const InlineEnvironment = z.object({
  repositories: z.array(Repository).max(20).default([]),
  /** Shell commands, run in order in the workspace before the harness starts; the first that fails ends the run. */
  setup_commands: z.array(NoNul.min(1).max(16_384)).max(50).default([]),
  variables: z.record(VariableName, NoNul.max(131_071)).default({}),
})
export type InlineEnvironment = z.infer<typeof InlineEnvironment>

const MCP_PLACES = ['warp_id', 'command', 'url'] as const

/** Exactly one of `warp_id`, `command` and `url` says where it is. */
export const McpServer = z.preprocess(
  (server, context) => {
    if (typeof server !== 'object' || server === null) return server
    const given = MCP_PLACES.filter((place) => (server as Record<string, unknown>)[place] != null)
    if (given.length !== 1)
      context.addIssue(`An MCP server has exactly one of warp_id, command and url; this has ${given.length}.`)
    return server
  },
  z.union([
    z.object({ warp_id: z.string() }),
    z.object({
      command: z.string(),
      args: z.array(z.string()).default([]),
      env: z.record(z.string(), z.string()).default({}),
    }),
    z.object({ url: z.url(), headers: z.record(z.string(), z.string()).default({}) }),
  ]),
)
export type McpServer = z.infer<typeof McpServer>

/** What happens when a harness asks leave to do something: `allow` and `deny` never ask a person. */
export const PermissionPolicy = z.enum(['allow', 'deny'])
export type PermissionPolicy = z.infer<typeof PermissionPolicy>

/** Names of secrets with the key of a harness's provider. They go before the worker's own keys. */
export const HarnessAuthSecrets = z.object({
  claude_auth_secret_name: NoNul.max(256).optional(),
  codex_auth_secret_name: NoNul.max(256).optional(),
})

/** Names of secrets, each once. */
export const SecretNames = z
  .array(z.object({ name: NoNul.min(1).max(256) }))
  .max(100)
  .refine((all) => new Set(all.map(({ name }) => name)).size === all.length, 'A secret is named twice.')

export const CREDENTIAL_STRATEGIES = ['CREATOR', 'EXECUTOR'] as const

export const InferenceProviders = z.object({
  aws: z
    .object({
      disabled: z.boolean().optional(),
      region: NoNul.max(64).optional(),
      role_arn: NoNul.max(2048).optional(),
    })
    .optional(),
})

/** A memory store that runs are given; with `read_write` their agents may add to it. */
export const AttachedStore = z.object({
  uid: z.string().min(1).max(128),
  access: z.enum(['read_write', 'read_only']),
  /** What is to be remembered there, and when it is of use. */
  instructions: NoNul.min(1, 'Say what the memory store is for.').max(16_384),
})
export type AttachedStore = z.infer<typeof AttachedStore>

/** Of one run or agent identity. */
export const STORES_MAX = 20

const SessionSharing = z.object({
  public_access: orAbsent(
    z.enum(['VIEWER', 'EDITOR'], 'Public access is VIEWER or EDITOR; nobody gets more by a link.'),
  ).optional(),
})

export const AgentConfig = z.object({
  name: z.string().max(256).optional(),
  model_id: z.string().max(256).optional(),
  base_prompt: z.string().max(131_072).optional(),
  /** Uid or, ours, name of an environment; null: none, also where the parent has one. */
  environment_id: orAbsent(z.string().max(128)).nullish(),
  worker_host: z.string().max(256).optional(),
  harness: HarnessChoice.nullish(),
  mcp_servers: z.record(z.string().max(64), McpServer).optional(),
  idle_timeout_minutes: z.int().min(1).max(60).optional(),
  computer_use_enabled: z.boolean().optional(),
  computer_use_model_id: z.string().max(256).optional(),
  /** `role_arn`: by which Claude Code asks Bedrock for its models. */
  inference_providers: InferenceProviders.optional(),
  /** From here to `credential_strategy`: kept and answered, and of no effect on runs here. These two as of the run itself. */
  interactive: z.boolean().optional(),
  orchestration_handoff: z.boolean().optional(),
  runner_id: z.string().max(128).optional(),
  credential_strategy: orAbsent(z.enum(CREDENTIAL_STRATEGIES)).nullish(),
  /** Its agent is given what they hold. Empty: none, also where its agent identity or its parent has some. */
  memory_stores: z.array(AttachedStore).max(STORES_MAX).optional(),
  /** With public access, what the run makes is read without a key. */
  session_sharing: SessionSharing.optional(),
  harness_auth_secrets: HarnessAuthSecrets.optional(),
  /** It is given these alone; empty: none; absent: all that there are for it. */
  secrets: SecretNames.optional(),
  /** Answers carry the first of `skills` here; what is asked names one or the other. */
  skill_spec: z.union([z.literal(''), SkillSpec]).optional(),
  skills: z.array(SkillSpec).max(20).optional(),
  /** Ours. */
  environment: InlineEnvironment.optional(),
  /** The longest that a snapshot of the workspace may take to be uploaded, and the script that declares what is in it. */
  /** As `snapshot_disabled` of the run itself. */
  snapshot_disabled: z.boolean().optional(),
  snapshot_upload_timeout_secs: z.int().min(1).max(3600).optional(),
  snapshot_script_timeout_secs: z.int().min(1).max(3600).optional(),
  /** Ours: the longest that one execution may take. */
  timeout_minutes: z
    .number()
    .positive()
    .max(7 * 24 * 60)
    .optional(),
  /** Ours: executions that a run may use up before a retryable failure is final. */
  max_tries: z.int().min(1).max(20).optional(),
  /** Ours. */
  permissions: PermissionPolicy.optional(),
})
export type AgentConfig = z.infer<typeof AgentConfig>

/** The harness that a configuration asks for, by its own name. */
export function harnessOf(config: AgentConfig): string {
  const type = config.harness?.type ?? 'oz'
  return harnessNamed(type)
}

/** By its own name; other than ours as it is spelled. */
export const harnessNamed = (spelling: string): string => entryOf(HARNESS_ALIASES, spelling) ?? spelling
