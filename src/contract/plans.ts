/**
 * Plans: what an agent proposes to do and which children it would start, before it does so. Each proposal is a new
 * version; the run is BLOCKED until a person has answered the newest one. Nothing answers by itself, and no time runs
 * out.
 *
 * One approval covers the text, the children and the configuration that all children get. All routes are ours.
 */
import { z } from 'zod'
import { HarnessName } from './config.ts'
import { Nothing, queryNumber, route } from './route.ts'
import { RunId, Timestamp } from './run-states.ts'
import { UserProfile } from './runs.ts'

export const PLAN_STATES = ['proposed', 'approved', 'changes_requested', 'rejected', 'superseded'] as const
export const PlanState = z.enum(PLAN_STATES)
export type PlanState = z.infer<typeof PlanState>

export const PLAN_DOCUMENT_BYTES_MAX = 256 * 1024
export const PLAN_CHILDREN_MAX = 200

const Words = z
  .string()
  .max(16_384)
  .refine((w) => !w.includes('\0'), 'must not contain a NUL byte')

/** A child that the plan would start. What it leaves open it takes from the plan's configuration. */
export const PlanChild = z.object({
  /** Told apart from the other children of the plan without regard to case and outer blanks. */
  name: z.string().trim().min(1).max(128),
  prompt: z.string().min(1).max(131_072),
  title: z.string().max(512).optional(),
  /** An environment by uid or name. */
  environment: z.string().max(128).optional(),
  /** What it is to return, for the person who approves and for the child itself. */
  expected_return: z.string().max(4096).optional(),
  harness: HarnessName.optional(),
  model_id: z.string().max(256).optional(),
})
export type PlanChild = z.infer<typeof PlanChild>

/** What every child of the run gets; once approved it goes before what `run_agents` asks for. */
export const PlanConfig = z.object({
  model_id: z.string().max(256).optional(),
  harness: HarnessName.optional(),
  environment: z.string().max(128).optional(),
  /** `worker`: any; `sandbox`: beside the parent; otherwise a worker's name. */
  where: z.string().max(256).optional(),
  /** So many of its children are at work at a time; the server holds back the others. */
  parallelism: z.int().min(1).max(1000).optional(),
  /** `inherit`: the parent's access to models. Otherwise the name of a secret. */
  auth: z.string().max(128).optional(),
})
export type PlanConfig = z.infer<typeof PlanConfig>

const PlanChildren = z
  .array(PlanChild)
  .max(PLAN_CHILDREN_MAX)
  .refine(
    (children) => new Set(children.map((child) => child.name.trim().toLowerCase())).size === children.length,
    'Two children have the same name.',
  )

const Document = z
  .string()
  .refine((d) => new TextEncoder().encode(d).length <= PLAN_DOCUMENT_BYTES_MAX, 'A plan is at most 256 KiB.')
  .refine((d) => !d.includes('\0'), 'must not contain a NUL byte')

export const Proposal = z.object({
  title: z.string().max(512).optional(),
  /** Markdown. */
  document: Document.refine((d) => d.trim() !== '', 'A plan needs a text.'),
  children: PlanChildren.default([]),
  config: PlanConfig.default({}),
})
export type Proposal = z.infer<typeof Proposal>

export const Plan = z.object({
  plan_id: z.uuid(),
  run_id: RunId,
  /** 1, 2, 3… of this run. */
  version: z.int(),
  state: PlanState,
  /** `person`: what was edited on approval, which is a version of its own. */
  author: z.enum(['agent', 'person']),
  title: z.string(),
  document: z.string(),
  children: z.array(PlanChild),
  config: PlanConfig,
  created_at: Timestamp,
  decided_at: Timestamp.nullable(),
  /** Null: nobody has, or the team lets children go on by themselves. */
  decided_by: UserProfile.nullable(),
  /** What the person said with the answer. */
  words: z.string().nullable(),
  /** The PLAN artifact that holds the document. */
  artifact_uid: z.string(),
})
export type Plan = z.infer<typeof Plan>

/** What a person may change on approval. What is left out stays as proposed. */
export const Approval = z.object({
  document: Document.optional(),
  children: PlanChildren.optional(),
  config: PlanConfig.optional(),
  message: Words.optional(),
})
export type Approval = z.infer<typeof Approval>

const PlanPath = z.object({ run_id: RunId, version: queryNumber(1) })
const OUTDATED =
  'An answer to a version that is no longer the open one gets 409 with what differs. The first answer wins.'

export const planRoutes = {
  list: route({
    name: 'plans.list',
    method: 'GET',
    path: '/agent/plans',
    tag: 'Plans',
    callers: ['user'],
    summary: 'Newest versions of plans, newest first; with `state=proposed` those that wait for a person.',
    query: z.object({
      state: PlanState.optional(),
      limit: queryNumber(1, 500).default(100),
    }),
    answer: z.object({ plans: z.array(Plan.extend({ run_title: z.string() })) }),
  }),
  ofRun: route({
    name: 'plans.ofRun',
    method: 'GET',
    path: '/agent/runs/{run_id}/plans',
    tag: 'Plans',
    callers: ['user', 'execution'],
    summary: "All versions of a run's plan, newest first.",
    params: z.object({ run_id: RunId }),
    answer: z.object({ plans: z.array(Plan) }),
  }),
  approve: route({
    name: 'plans.approve',
    method: 'POST',
    path: '/agent/runs/{run_id}/plans/{version}/approve',
    tag: 'Plans',
    callers: ['user'],
    summary: `Approve a version, as it is or edited (then the edited one is a new version). ${OUTDATED}`,
    params: PlanPath,
    body: Approval,
    answer: Plan,
    body_bytes_max: 8 * 1024 * 1024,
  }),
  revise: route({
    name: 'plans.revise',
    method: 'POST',
    path: '/agent/runs/{run_id}/plans/{version}/revise',
    tag: 'Plans',
    callers: ['user'],
    summary: `Ask the agent, in words, for another version. ${OUTDATED}`,
    params: PlanPath,
    body: z.object({ message: Words.refine((m) => m.trim() !== '', 'Say what to change.') }),
    answer: Plan,
  }),
  reject: route({
    name: 'plans.reject',
    method: 'POST',
    path: '/agent/runs/{run_id}/plans/{version}/reject',
    tag: 'Plans',
    callers: ['user'],
    summary: `Reject a version: its run is cancelled. ${OUTDATED}`,
    params: PlanPath,
    body: z.object({ message: Words.optional() }),
    answer: Plan,
  }),
}

export const FollowUp = z.object({
  message: z.string().max(131_072).nullish(),
  mode: z.enum(['normal', 'plan', 'orchestrate']).nullish(),
})
export type FollowUp = z.infer<typeof FollowUp>

export const followUpRoutes = {
  create: route({
    name: 'followUps.create',
    method: 'POST',
    idempotent: true,
    path: '/agent/runs/{run_id}/followups',
    tag: 'Runs',
    callers: ['user'],
    summary:
      'Say more to a run: not yet started, it is added to the prompt; at work, it reaches the agent; ended, the run goes on. While a plan waits, it asks for changes.',
    params: z.object({ run_id: RunId }),
    body: FollowUp,
    answer: Nothing,
  }),
}
