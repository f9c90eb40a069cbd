/**
 * Secrets: values that runs are given and that nobody is shown again. Oz publishes the command line's words for them
 * and no REST; all of this is ours, with the types of Oz.
 */
import { z } from 'zod'
import { NoNul, VariableName } from './config.ts'
import { Uid } from './environments.ts'
import { Nothing, route } from './route.ts'
import { Timestamp } from './run-states.ts'
import { UserProfile } from './runs.ts'

/** Shorter values would be found in ordinary words, so they cannot be kept out of transcripts. */
export const SECRET_CHARACTERS_MIN = 6
/** `NAME=value` must be less than this, or no program can be started with it (Linux: 128 KiB with its NUL). */
export const SECRET_BYTES_MAX = 128 * 1024 - 1

export const SECRET_TYPES = [
  'raw_value',
  'anthropic_api_key',
  'openai_api_key',
  'anthropic_bedrock_api_key',
  'anthropic_bedrock_access_key',
] as const
export const SecretType = z.enum(SECRET_TYPES)
export type SecretType = z.infer<typeof SecretType>

const Hidden = NoNul.min(SECRET_CHARACTERS_MIN, `must have at least ${SECRET_CHARACTERS_MIN} characters`)
const Region = z.string().regex(/^[a-z0-9-]{1,64}$/, 'is no region, such as us-east-1')

/** What a secret of each type consists of. */
export const SecretParts = {
  raw_value: z.strictObject({ value: Hidden }),
  anthropic_api_key: z.strictObject({ api_key: Hidden }),
  openai_api_key: z.strictObject({
    api_key: Hidden,
    base_url: z
      .url({ protocol: /^https?$/, error: 'is no http or https address' })
      .max(2048)
      .optional(),
  }),
  anthropic_bedrock_api_key: z.strictObject({ api_key: Hidden, region: Region }),
  anthropic_bedrock_access_key: z.strictObject({
    access_key_id: Hidden,
    secret_access_key: Hidden,
    session_token: Hidden.optional(),
    region: Region,
  }),
} as const satisfies Record<SecretType, z.ZodType>

/** A text, or the parts of its type by name; a text stands for `value` or `api_key`. */
const Value = z.union([z.string(), z.record(z.string().max(64), z.string())])
const Description = NoNul.max(1024).nullable()

/** Names that Baton itself sets, or that decide which programs run; and one under which no object keeps anything. */
const RESERVED = /^(OZ_|WARP_|BATON_(?!MODEL_)|LD_|DYLD_|TASK_ID$|PATH$|HOME$|NODE_OPTIONS$|__proto__$)/

const Name = VariableName.refine((name) => !RESERVED.test(name), 'This name is not free: Baton or the system sets it.')

export const NewSecret = z.object({
  /** The variable that a raw value becomes; of the other types only what it is called. */
  name: Name,
  type: SecretType.default('raw_value'),
  value: Value,
  description: Description.optional(),
  /** False: the caller's own; else the team's. */
  team: z.boolean().optional(),
  /** Uid or name: only for runs in that environment. */
  environment_id: z.string().min(1).max(128).optional(),
})
export type NewSecret = z.infer<typeof NewSecret>

export const ReplaceSecret = z.object({ value: Value, description: Description.optional() })

/** What is left out stays as it is; its type stays. */
export const EditSecret = z.object({
  name: Name.optional(),
  value: Value.optional(),
  description: Description.optional(),
})
export type EditSecret = z.infer<typeof EditSecret>

export const Secret = z.object({
  uid: Uid,
  name: z.string(),
  type: SecretType,
  description: z.string().nullable(),
  scope: z.object({ type: z.enum(['User', 'Team', 'Environment']), uid: z.string() }),
  /** Counts its values. */
  version: z.int(),
  /** False: this server lacks the master key that its value is locked with. */
  available: z.boolean(),
  created_at: Timestamp,
  updated_at: Timestamp,
  creator: UserProfile,
  last_editor: UserProfile,
  /** The last run that was given it, about a minute exactly. */
  last_used_at: Timestamp.nullable(),
  last_used_run_id: z.string().nullable(),
  last_used_by: UserProfile.nullable(),
})
export type Secret = z.infer<typeof Secret>

const SecretPath = z.object({ secret_uid: Uid })
const tag = 'Secrets'

export const secretRoutes = {
  list: route({
    name: 'secrets.list',
    method: 'GET',
    path: '/secrets',
    tag,
    callers: ['user'],
    summary: 'Secrets that the caller may use, without their values (ours).',
    query: z.object({ environment_id: z.string().max(128).optional() }),
    answer: z.object({ secrets: z.array(Secret) }),
  }),
  create: route({
    name: 'secrets.create',
    method: 'POST',
    path: '/secrets',
    tag,
    callers: ['user'],
    people: true,
    summary: 'Keep a secret for the team, for oneself, or for one environment (ours). Its value is never answered.',
    body: NewSecret,
    answer: Secret,
    status: 201,
  }),
  get: route({
    name: 'secrets.get',
    method: 'GET',
    path: '/secrets/{secret_uid}',
    tag,
    callers: ['user'],
    summary: 'What is known of one secret, without its value (ours).',
    params: SecretPath,
    answer: Secret,
  }),
  replace: route({
    name: 'secrets.replace',
    method: 'PUT',
    path: '/secrets/{secret_uid}',
    tag,
    callers: ['user'],
    people: true,
    summary:
      'Give a secret another value and description (ours). Executions that were offered before keep the old one.',
    params: SecretPath,
    body: ReplaceSecret,
    answer: Secret,
  }),
  update: route({
    name: 'secrets.update',
    method: 'PATCH',
    path: '/secrets/{secret_uid}',
    tag,
    callers: ['user'],
    people: true,
    summary: 'Change the name, the value or the description of a secret (ours).',
    params: SecretPath,
    body: EditSecret,
    answer: Secret,
  }),
  delete: route({
    name: 'secrets.delete',
    method: 'DELETE',
    path: '/secrets/{secret_uid}',
    tag,
    callers: ['user'],
    people: true,
    summary: 'Delete a secret (ours). Executions at work keep what they were given; nothing new gets it.',
    params: SecretPath,
    answer: Nothing,
    status: 204,
  }),
  rotate: route({
    name: 'secrets.rotate',
    method: 'POST',
    path: '/secrets/rotate-key',
    tag,
    callers: ['user'],
    role: 'owner',
    people: true,
    summary:
      'Lock everything with the newest master key (ours). Where the server keeps its keys itself, a new one is made ' +
      'first, unless `make` is false. May be repeated after it broke off.',
    body: z.object({ make: z.boolean().default(true) }),
    answer: z.object({
      /** Of the newest master key. */
      key_id: z.string(),
      made: z.boolean(),
      /** What was locked with another key and is not any more. */
      rewrapped: z.int(),
      /** Keys that this server has and that lock nothing any more. */
      unused_keys: z.array(z.string()),
    }),
  }),
}
