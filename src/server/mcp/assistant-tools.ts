/**
 * What a person's own assistant may do, with the person's key: start runs, look at them, say more to them, and answer
 * the plans that wait. Agents of runs have tools of their own.
 */
import type { CallToolResult, McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { Approval, CreateRun, FollowUp, ListRuns, type Plan, type Run, RunMode } from '../../contract/index.ts'
import type { UserCaller } from '../../engine/caller.ts'
import type { ServerRoom } from '../room.ts'
import { answer, sayFaults } from './call.ts'
import { listOf, present } from './liberal.ts'

export type AssistantRoom = { room: ServerRoom; caller: UserCaller; trace_id: string }

const RunId = z.uuid().describe('The id of the run.')
const Version = z
  .int()
  .min(1)
  .describe('The version that you have read. Another one may wait by now; then nothing happens.')
const Shown = z.object({
  run_id: z.string(),
  title: z.string(),
  state: z.string(),
  parent_run_id: z.string().optional(),
  open_plan: z.int().optional().describe('A version of its plan waits for an answer.'),
  status: z.string().optional(),
})
const CHANGES = { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: true }
const READS = { readOnlyHint: true, openWorldHint: false }

export function addAssistantTools(server: McpServer, its: AssistantRoom): void {
  addRunTools(server, its)
  addAnswerTools(server, its)
}

function addRunTools(server: McpServer, its: AssistantRoom): void {
  const { runs, followUps } = its.room.engine
  server.registerTool(
    'start_run',
    {
      title: 'Start a run',
      description:
        'Give a piece of work to an agent. Answers at once with the run_id; look at it with get_run. In mode plan or orchestrate the agent first proposes a plan, which then waits for an answer.',
      inputSchema: z.object({
        prompt: z.string().min(1),
        title: z.string().max(512).optional(),
        mode: RunMode.optional(),
        harness: z.string().max(64).optional().describe('oz, claude, codex, gemini, opencode or command.'),
        model_id: z.string().max(256).optional(),
        environment: z.string().max(128).optional().describe('An environment by uid or name.'),
      }),
      outputSchema: z.object({ run_id: z.string(), state: z.string() }),
      annotations: CHANGES,
    },
    ({ prompt, title, mode, harness, model_id, environment }) =>
      say(its, async () => {
        const config = present({ harness: harness && { type: harness }, model_id, environment_id: environment })
        const body = CreateRun.parse(present({ prompt, title, mode, config }))
        const made = await runs.create(its.caller, body, { source: 'API' })
        return answer({ run_id: made.answer.run_id, state: made.answer.state }, `Started as run ${made.answer.run_id}.`)
      }),
  )
  server.registerTool(
    'list_runs',
    {
      title: 'List runs',
      description: 'The runs of the team, the one that changed last first.',
      inputSchema: z.object({
        state: z
          .union([z.string(), z.array(z.string())])
          .optional()
          .describe('Only these states, such as BLOCKED.'),
        limit: z.int().min(1).max(100).default(20),
      }),
      outputSchema: z.object({ runs: z.array(Shown) }),
      annotations: READS,
    },
    ({ state, limit }) =>
      say(its, async () => {
        const query = ListRuns.parse(present({ state: listOf(state), limit }))
        const page = await runs.list(its.caller, query)
        return answer({ runs: page.runs.map(shown) }, page.runs.map(line).join('\n') || 'There are none.')
      }),
  )
  server.registerTool(
    'get_run',
    {
      title: 'Look at a run',
      description: 'One run: its state, and what it last said of itself.',
      inputSchema: z.object({ run_id: RunId }),
      outputSchema: Shown,
      annotations: READS,
    },
    ({ run_id }) =>
      say(its, async () => {
        const run = await runs.get(its.caller, run_id)
        return answer(shown(run), line(run))
      }),
  )
  server.registerTool(
    'follow_up',
    {
      title: 'Say more to a run',
      description: 'Reaches its agent wherever the run is: before it began, at work, or ended, when it goes on.',
      inputSchema: z.object({ run_id: RunId, message: z.string().min(1), mode: FollowUp.shape.mode }),
      outputSchema: z.object({ accepted: z.boolean() }),
      annotations: CHANGES,
    },
    ({ run_id, ...said }) =>
      say(its, async () => {
        await followUps.create(its.caller, run_id, said)
        return answer({ accepted: true }, 'Accepted.')
      }),
  )
}

function addAnswerTools(server: McpServer, its: AssistantRoom): void {
  const { plans } = its.room.engine
  const Answered = z.object({ run_id: z.string(), version: z.int(), state: z.string() })
  const answered = (plan: Plan) =>
    answer(
      { run_id: plan.run_id, version: plan.version, state: plan.state },
      `Version ${plan.version} is now ${plan.state.replaceAll('_', ' ')}.`,
    )
  server.registerTool(
    'list_open_plans',
    {
      title: 'Plans that wait',
      description:
        'Plans of runs that wait for an answer, newest first, each whole. Show them to the person who decides.',
      inputSchema: z.object({}),
      outputSchema: z.object({ plans: z.array(z.looseObject({ run_id: z.string(), version: z.int() })) }),
      annotations: READS,
    },
    () =>
      say(its, async () => {
        const open = await plans.list(its.caller, { state: 'proposed', limit: 50 })
        const text = open.plans.map(
          (plan) => `Run ${plan.run_id}, version ${plan.version}: ${plan.title}\n\n${plan.document}`,
        )
        return answer({ plans: open.plans }, text.join('\n\n---\n\n') || 'No plan waits for an answer.')
      }),
  )
  server.registerTool(
    'approve_plan',
    {
      title: 'Approve a plan',
      description:
        'Only when the person has read this version and says so. Children and config may be edited: give the whole list or the whole config that should hold.',
      inputSchema: Approval.extend({ run_id: RunId, version: Version }),
      outputSchema: Answered,
      annotations: CHANGES,
    },
    ({ run_id, version, ...given }) =>
      say(its, async () => answered(await plans.approve(its.caller, run_id, version, given))),
  )
  server.registerTool(
    'request_plan_changes',
    {
      title: 'Ask for changes',
      description: 'Tells the agent in words what to change; it proposes another version.',
      inputSchema: z.object({ run_id: RunId, version: Version, message: z.string().min(1).max(16_384) }),
      outputSchema: Answered,
      annotations: CHANGES,
    },
    ({ run_id, version, message }) =>
      say(its, async () => answered(await plans.revise(its.caller, run_id, version, message))),
  )
  server.registerTool(
    'reject_plan',
    {
      title: 'Reject a plan',
      description: 'The run is cancelled. To have the plan changed, ask for changes instead.',
      inputSchema: z.object({ run_id: RunId, version: Version, message: z.string().max(16_384).optional() }),
      outputSchema: Answered,
      annotations: { ...CHANGES, destructiveHint: true },
    },
    ({ run_id, version, message }) =>
      say(its, async () => answered(await plans.reject(its.caller, run_id, version, message))),
  )
}

const say = (its: AssistantRoom, work: () => Promise<CallToolResult>) => sayFaults(its, work)

function shown(run: Run) {
  return present({
    run_id: run.run_id,
    title: run.title,
    state: run.state,
    parent_run_id: run.parent_run_id,
    open_plan: run.open_plan,
    status: run.status_message?.message,
  })
}

function line(run: Run): string {
  const why = run.status_message === undefined ? '' : `: ${run.status_message.message}`
  const plan = run.open_plan === undefined ? '' : ` (version ${run.open_plan} of its plan waits for an answer)`
  return `${run.run_id} ${run.state}${plan} ${run.title}${why}`
}
