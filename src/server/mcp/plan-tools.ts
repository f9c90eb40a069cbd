import type { McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { Fault, PlanChild, PlanConfig, Proposal } from '../../contract/index.ts'
import { answer, answerOrSay, keyOf, type ToolRoom } from './call.ts'
import { isLoose, listOf, pick, present, shown, shownAs, unpack } from './liberal.ts'

const DESCRIPTION = `Put a plan before a person and wait for the answer. Use it when you were asked to plan or to \
orchestrate, or before something that a person should decide. Read first what you need to know; change nothing \
before the plan is approved.

The plan is Markdown: what you will do, in which order, how you will know that it is done, what could go wrong. Where \
agents that work at the same time help, give one entry for each: its name, its WHOLE prompt (it knows nothing of this \
conversation), its environment where it needs one, and what it is to return. In the text say how many agents there are \
and who owns what. config is what all of them get.

Each call makes a new version; the newest is the one that waits. After the call END YOUR TURN AT ONCE: the person \
approves (maybe with edits), asks for changes, or rejects, and the answer is your next prompt.`

const Input = z.object({
  plan: z.string().describe('The plan as Markdown, beginning with a heading.'),
  title: z.string().max(512).optional().describe('One line for people; the first heading where absent.'),
  agents: z
    .array(
      PlanChild.extend({
        name: PlanChild.shape.name.describe('Short and telling, such as "auth-tests".'),
        prompt: PlanChild.shape.prompt.describe('All that this agent is told.'),
        expected_return: PlanChild.shape.expected_return.describe('What it is to send back to you.'),
      }),
    )
    .optional()
    .describe('The agents that you would start; none where you do the work alone.'),
  config: PlanConfig.optional().describe('For all agents: model_id, harness, environment, where, parallelism, auth.'),
})
type Input = z.infer<typeof Input>

const SCHEMAS = {
  inputSchema: shownAs(Input, z.preprocess(readInput, Input)),
  outputSchema: shown(
    z.object({
      plan_id: z.string(),
      version: z.int(),
      status: z.enum(['waits_for_a_person', 'approved']),
      advice: z.string().describe('What to do now.'),
    }),
  ),
}

export function addPlanTools(server: McpServer, its: ToolRoom): void {
  server.registerTool(
    'propose_plan',
    {
      title: 'Propose a plan',
      description: DESCRIPTION,
      ...SCHEMAS,
      annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: false },
    },
    (asked, ctx) => answerOrSay(its, () => propose(its, asked, keyOf(its, ctx, 'propose_plan', asked))),
  )
}

async function propose({ room, caller }: ToolRoom, { plan, title, agents, config }: Input, key: string) {
  const proposal = Proposal.safeParse(present({ title, document: plan, children: agents, config }))
  if (!proposal.success) throw new Fault('invalid_request', z.prettifyError(proposal.error))
  const proposed = await room.engine.plans.propose(caller, proposal.data, { key })
  const { plan_id, version } = proposed.plan
  const status = proposed.waits ? 'waits_for_a_person' : 'approved'
  const advice = proposed.waits ? END_TURN : 'Carry it out now.'
  const what = proposed.waits ? 'is before a person' : 'needs no approval here'
  return answer({ plan_id, version, status, advice }, `Version ${version} of the plan ${what}. ${advice}`)
}

const END_TURN = 'End your turn now, without calling another tool. The answer is your next prompt.'

/** What models make of the parameters, as `Input`. */
function readInput(given: unknown): unknown {
  const asked = unpack(given)
  if (!isLoose(asked)) return asked
  const agents = listOf(pick(asked, 'agents', 'children', 'agent_run_configs'))
  const config = unpack(pick(asked, 'config', 'configuration'))
  return present({
    plan: pick(asked, 'plan', 'document', 'markdown', 'text'),
    title: pick(asked, 'title', 'summary'),
    agents: Array.isArray(agents) ? agents.map(readAgent) : agents,
    config: isLoose(config) ? readConfig(config) : config,
  })
}

function readAgent(given: unknown): unknown {
  const agent = unpack(given)
  if (!isLoose(agent)) return agent
  return present({
    name: pick(agent, 'name'),
    prompt: pick(agent, 'prompt', 'task'),
    title: pick(agent, 'title'),
    environment: pick(agent, 'environment', 'environment_id'),
    expected_return: pick(agent, 'expected_return', 'expected', 'returns'),
    harness: pick(agent, 'harness', 'harness_type'),
    model_id: pick(agent, 'model_id', 'model'),
  })
}

function readConfig(config: Record<string, unknown>): unknown {
  const parallelism = pick(config, 'parallelism', 'concurrency')
  return present({
    model_id: pick(config, 'model_id', 'model'),
    harness: pick(config, 'harness', 'harness_type'),
    environment: pick(config, 'environment', 'environment_id'),
    where: pick(config, 'where', 'host', 'worker_host'),
    parallelism: typeof parallelism === 'string' ? Number(parallelism) : parallelism,
    auth: pick(config, 'auth'),
  })
}
