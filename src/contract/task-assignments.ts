/** What a worker is given with a run that it takes, or a runner with a child that is to run beside it. */
import { z } from 'zod'
import { AgentConfig } from './config.ts'
import { Timestamp } from './run-states.ts'

/** Providers whose keys a worker's broker can hold, so that no sandbox does. */
export const MODEL_KEY_PROVIDERS = ['anthropic', 'openai', 'gemini'] as const
export type ModelKeyProvider = (typeof MODEL_KEY_PROVIDERS)[number]

/** A provider's key of one execution, from a secret. */
export const ModelKey = z.object({
  provider: z.enum(MODEL_KEY_PROVIDERS),
  api_key: z.string(),
  /** As the provider's own clients spell it; the worker's, or the provider's own, where absent. */
  base_url: z.string().optional(),
  /** The run names it: it goes before the worker's own key. */
  chosen: z.boolean(),
})
export type ModelKey = z.infer<typeof ModelKey>

export const TaskAssignment = z.object({
  task_id: z.string(),
  execution_id: z.string(),
  task: z.object({
    id: z.string(),
    title: z.string(),
    task_definition: z.object({ prompt: z.string() }),
    created_at: Timestamp,
    updated_at: Timestamp,
    owner: z.object({ Type: z.enum(['USER', 'TEAM']), Id: z.int() }).optional(),
    agent_config_snapshot: AgentConfig.optional(),
  }),
  /** Of the environment; workers without containers take no notice of it. */
  docker_image: z.string().optional(),
  /** Carries the execution's own token as WARP_API_KEY; never a person's key. */
  env_vars: z.record(z.string(), z.string()),
  additional_oz_args: z.array(z.string()).default([]),
  /** Ours: for the broker of a worker that said that it takes them; never for the sandbox. */
  model_keys: z.array(ModelKey).optional(),
})
export type TaskAssignment = z.infer<typeof TaskAssignment>
