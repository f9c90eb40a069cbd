/**
 * Agent identities: named agents of a team. A run in the name of one takes its settings where it says nothing itself.
 * Paths and fields are those of the public Oz v1 API. Runners have no counterpart here: their required field is
 * answered empty, and giving one is refused.
 */
import { z } from 'zod'
import {
  AttachedStore,
  CREDENTIAL_STRATEGIES,
  HarnessAuthSecrets,
  HarnessName,
  InferenceProviders,
  McpServer,
  NoNul,
  SecretNames,
  STORES_MAX,
} from './config.ts'
import { Uid } from './environments.ts'
import { Scope } from './roles.ts'
import { Nothing, route } from './route.ts'
import { Timestamp } from './run-states.ts'
import { SkillSpec } from './skills.ts'

const Name = NoNul.trim().min(1, 'A name must not be empty.').max(128)

export const AGENT_TYPES = ['FOREMAN', 'TRIAGE', 'SPEC', 'IMPLEMENT', 'REVIEW', 'VERIFY', 'CUSTOM'] as const

/** What clears stands beside what sets. */
const clearable = <T extends z.ZodType>(value: T) => z.union([z.literal(''), value]).nullish()

const fields = {
  description: NoNul.max(1024).nullish(),
  prompt: NoNul.max(131_072).nullish(),
  base_model: NoNul.max(256).nullish(),
  harness: z
    .object({
      type: z.union([z.literal(''), HarnessName]).nullish(),
      model_id: z.string().max(256).nullish(),
      reasoning_level: z.string().max(64).nullish(),
    })
    .nullish(),
  /** Uid or, ours, name. */
  environment_id: NoNul.max(128).nullish(),
  worker_host: NoNul.max(256).nullish(),
  skills: z.array(SkillSpec).max(20).nullish(),
  mcp_servers: z.record(z.string().min(1).max(64), McpServer).nullish(),
  /** Names of managed secrets, each once. */
  secrets: SecretNames.nullish(),
  /** The older spelling of `harness.type`, which goes before it. */
  base_harness: clearable(HarnessName),
  harness_auth_secrets: HarnessAuthSecrets.nullish(),
  inference_providers: InferenceProviders.nullish(),
  credential_strategy: clearable(z.enum(CREDENTIAL_STRATEGIES)),
  agent_type: clearable(z.enum(AGENT_TYPES)),
  factory_uid: NoNul.max(256).nullish(),
  on_behalf_of_enabled: z.boolean().nullish(),
  default_runner_uid: z.literal('', 'There are no runners here: leave it out.').nullish(),
  memory: z
    .object({
      attached_stores: z.array(AttachedStore).max(STORES_MAX).nullish(),
      /** A store of its own, which its runs read and add to. Switched off, it keeps what it holds. */
      auto_memory: z.object({ enabled: z.boolean().nullish() }).nullish(),
    })
    .nullish(),
}

/** `team` false: for its maker alone, and for personal runs (ours). It never changes. */
export const NewIdentity = z.object({ name: Name, team: z.boolean().optional(), ...fields })
export type NewIdentity = z.infer<typeof NewIdentity>

/** What is absent or null stays; `""`, `[]` and `{}` clear. */
export const EditIdentity = z.object({ name: Name.nullish(), ...fields })
export type EditIdentity = z.infer<typeof EditIdentity>

export const Identity = z.object({
  uid: Uid,
  name: z.string(),
  available: z.boolean(),
  created_at: Timestamp,
  updated_at: Timestamp,
  description: z.string().nullable(),
  prompt: z.string().nullable(),
  base_model: z.string().nullable(),
  /** The same as `harness.type`, for older clients. */
  base_harness: z.string().optional(),
  harness: z
    .object({ type: z.string(), model_id: z.string().optional(), reasoning_level: z.string().optional() })
    .optional(),
  harness_auth_secrets: HarnessAuthSecrets.optional(),
  inference_providers: InferenceProviders.optional(),
  credential_strategy: z.enum(CREDENTIAL_STRATEGIES).optional(),
  environment_id: z.string().optional(),
  worker_host: z.string().optional(),
  skills: z.array(z.string()),
  mcp_servers: z.record(z.string(), McpServer),
  secrets: z.array(z.object({ name: z.string() })),
  factory_uid: z.string().nullable(),
  agent_type: z.enum(AGENT_TYPES).nullable(),
  on_behalf_of_enabled: z.boolean(),
  memory: z.object({
    attached_stores: z.array(AttachedStore),
    auto_memory: z.object({
      enabled: z.boolean(),
      store: AttachedStore.extend({
        owner_type: z.literal('service_account'),
        owner_uid: Uid,
        description: z.string().optional(),
      }).optional(),
    }),
  }),
  default_runner_uid: z.string(),
  /** Ours. */
  scope: Scope,
  /** Ours: the one that every team has; it cannot be deleted. */
  is_default: z.boolean(),
})
export type Identity = z.infer<typeof Identity>

const IdentityPath = z.object({ identity_uid: Uid })
const tag = 'Agent identities'

export const identityRoutes = {
  create: route({
    name: 'identities.create',
    method: 'POST',
    people: true,
    path: '/agent/identities',
    tag,
    callers: ['user'],
    summary: 'Create an agent identity.',
    body: NewIdentity,
    answer: Identity,
    status: 201,
  }),
  list: route({
    name: 'identities.list',
    method: 'GET',
    path: '/agent/identities',
    tag,
    callers: ['user'],
    summary: 'The agent identities of the team, oldest first; with `factory_uid`, those of that factory.',
    query: z.object({ factory_uid: z.string().max(256).optional() }),
    answer: z.object({ agents: z.array(Identity) }),
  }),
  get: route({
    name: 'identities.get',
    method: 'GET',
    path: '/agent/identities/{identity_uid}',
    tag,
    callers: ['user'],
    summary: 'One agent identity.',
    params: IdentityPath,
    answer: Identity,
  }),
  update: route({
    name: 'identities.update',
    method: 'PUT',
    people: true,
    path: '/agent/identities/{identity_uid}',
    tag,
    callers: ['user'],
    summary: 'Change an agent identity: what is absent or null stays; "", [] and {} clear.',
    params: IdentityPath,
    body: EditIdentity,
    answer: Identity,
  }),
  delete: route({
    name: 'identities.delete',
    method: 'DELETE',
    people: true,
    path: '/agent/identities/{identity_uid}',
    tag,
    callers: ['user'],
    summary:
      "Delete an agent identity. It is refused to new runs; those that were made in its name go on. The team's " +
      'default agent stays.',
    params: IdentityPath,
    answer: Nothing,
    status: 204,
  }),
}
