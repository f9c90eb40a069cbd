import type { McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { type Entry, type EntryBody, Fault, type TreeNode } from '../../contract/index.ts'
import { answer, answerOrSay, resolveAgents, type ToolRoom } from './call.ts'
import { isLoose, pick, present, shown, truth, unpack } from './liberal.ts'

const LIST = `See all agents of your tree: who they are, who started whom, in which state each is, and the last \
words of each. Use it before you conclude, to find an agent_id, or when you have lost track. To wait for a change, \
call wait_for_events; do not call this in a loop.

States: QUEUED, PENDING, CLAIMED (not begun), INPROGRESS (at work, or waiting for events), BLOCKED (needs a \
person), and the ends SUCCEEDED, FAILED, ERROR, CANCELLED. An agent that has ended can be written to, and wakes.`

const FETCH = `Read what an agent that you started has said and done: the end of its transcript, as text. Use it \
when its message is not enough, when it ended without one, or to check how it came to a result. To read what went \
before, call again with the "before" of the answer. Large: prefer asking the agent when one question is all you \
have.`

const CANCEL = `Stop an agent that you started, directly or through others, because it is on the wrong way or no \
longer needed. It ends as CANCELLED. Agents that it started go on, unless you set subtree. To correct an agent, \
send it a message instead. You get "accepted": it may take some seconds to stop, and wait_for_events tells you of \
it.`

const AgentName = z.string().min(1).max(256).describe('Its agent_id, or its name.')

const Listed = z.object({
  agent_id: z.string(),
  name: z.string(),
  relation: z.enum(['you', 'parent', 'child', 'other']),
  parent_agent_id: z.string().optional(),
  state: z.string(),
  waiting: z.boolean().describe('Its turn has ended and it waits for events.'),
  harness: z.string(),
  last_words: z.string().optional(),
  undelivered_messages: z.number(),
})

const LIST_SCHEMAS = {
  inputSchema: shown(z.object({})),
  outputSchema: shown(
    z.object({
      agents: z.array(Listed),
      all_ended: z.boolean(),
      stopped: z.string().optional().describe('Why the tree was stopped; a person must release it.'),
    }),
  ),
}
const FETCH_SCHEMAS = {
  inputSchema: shown(
    z.preprocess(
      readAgent,
      z.object({ agent_id: AgentName, before: z.string().max(64).optional().describe('From an earlier answer.') }),
    ),
  ),
  outputSchema: shown(
    z.object({
      agent_id: z.string(),
      conversation: z.string(),
      before: z.string().optional().describe('There is more before this: call again with it.'),
    }),
  ),
}
const CANCEL_SCHEMAS = {
  inputSchema: shown(
    z.preprocess(
      readAgent,
      z.object({ agent_id: AgentName, subtree: z.boolean().default(false).describe('Also all that it started.') }),
    ),
  ),
  outputSchema: shown(
    z.object({ agent_id: z.string(), accepted: z.literal(true), subtree: z.boolean(), advice: z.string() }),
  ),
}

/** Entries of one answer, and the characters that it may have; what is over is left to the call before. */
const ENTRIES = 200
const CHARACTERS_MAX = 24_000
/** Characters of one entry. */
const ENTRY_CHARACTERS_MAX = 4_000

export function addAgentTools(server: McpServer, its: ToolRoom): void {
  server.registerTool(
    'list_agents',
    {
      title: 'List agents',
      description: LIST,
      ...LIST_SCHEMAS,
      annotations: { readOnlyHint: true, openWorldHint: false },
    },
    () => answerOrSay(its, () => list(its)),
  )
  server.registerTool(
    'fetch_conversation',
    {
      title: "Read an agent's transcript",
      description: FETCH,
      ...FETCH_SCHEMAS,
      annotations: { readOnlyHint: true, openWorldHint: false },
    },
    ({ agent_id, before }) => answerOrSay(its, () => fetchConversation(its, agent_id, before)),
  )
  server.registerTool(
    'cancel_agent',
    {
      title: 'Cancel an agent',
      description: CANCEL,
      ...CANCEL_SCHEMAS,
      annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
    },
    ({ agent_id, subtree }) =>
      answerOrSay(its, async () => {
        const [run_id = agent_id] = await resolveAgents(its, [agent_id])
        await reaching(its, run_id, () => cancelOnce(its, run_id, subtree))
        const what = subtree ? 'The agent and all that it started stop' : 'The agent stops'
        const advice = 'wait_for_events tells you when it has ended.'
        return answer({ agent_id: run_id, accepted: true, subtree, advice }, `${what}. ${advice}`)
      }),
  )
}

/** What is cancelled already was, by this very call perhaps, whose answer was lost. */
async function cancelOnce({ room, caller }: ToolRoom, run_id: string, cascade: boolean): Promise<void> {
  try {
    await room.engine.runs.cancel(caller, run_id, { cascade })
  } catch (thrown) {
    if (!(thrown instanceof Fault) || thrown.code !== 'invalid_request') throw thrown
    if ((await room.engine.runs.get(caller, run_id)).state !== 'CANCELLED') throw thrown
  }
}

/** Of what is not below it an agent knows nothing but that it is in its list: there it is told why not. */
async function reaching<T>(its: ToolRoom, run_id: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (thrown) {
    if (!(thrown instanceof Fault) || thrown.code !== 'resource_not_found') throw thrown
    const { own, tree } = await readTree(its)
    const node = tree.nodes.find((one) => one.run_id === run_id)
    if (node === undefined) throw thrown
    const who = run_id === own.run_id ? 'That is you' : `You did not start ${JSON.stringify(node.name)} (${run_id})`
    const sentence = `${who}; this is only for agents that you started, directly or through others.`
    throw new Fault('not_authorized', `${sentence} You can write to the others with send_message_to_agent.`)
  }
}

async function readTree({ room, caller }: ToolRoom) {
  const own = await room.engine.runs.get(caller, caller.run_id)
  return { own, tree: await room.engine.trees.get(caller, own.root_run_id) }
}

async function list(its: ToolRoom) {
  const { caller } = its
  const { own, tree } = await readTree(its)
  const agents = tree.nodes.map((node) => ({
    agent_id: node.run_id,
    name: node.name,
    relation: relationOf(node, caller.run_id, own.parent_run_id),
    ...(node.parent_run_id === null ? {} : { parent_agent_id: node.parent_run_id }),
    state: node.state,
    waiting: node.waiting,
    harness: node.harness,
    ...(node.last_words === undefined ? {} : { last_words: node.last_words }),
    undelivered_messages: node.undelivered,
  }))
  const lines = tree.nodes.map((node, at) => {
    const state = node.waiting ? `${node.state}, waiting` : node.state
    const words = node.last_words === undefined ? '' : `: ${node.last_words}`
    const facts = `${agents[at]?.relation}, ${state}, agent_id ${node.run_id}`
    return `${'  '.repeat(node.depth)}- ${node.name} (${facts})${words}`
  })
  const stopped = tree.stopped === null ? {} : { stopped: tree.stopped.message }
  if (tree.stopped !== null) lines.push(`The tree is stopped: ${tree.stopped.message}`)
  return answer({ agents, all_ended: tree.done, ...stopped }, lines.join('\n'))
}

function relationOf(node: TreeNode, run_id: string, parent_run_id: string | undefined) {
  if (node.run_id === run_id) return 'you'
  if (node.run_id === parent_run_id) return 'parent'
  return node.parent_run_id === run_id ? 'child' : 'other'
}

async function fetchConversation(its: ToolRoom, asked: string, before: string | undefined) {
  const { room, caller } = its
  const [agent_id = asked] = await resolveAgents(its, [asked])
  const window = await reaching(its, agent_id, () =>
    room.engine.transcripts.list(caller, agent_id, { limit: ENTRIES, before }),
  )
  const shown: Entry[] = []
  let characters = 0
  for (const entry of window.entries.toReversed()) {
    characters += renderEntry(entry.body).length
    if (shown.length > 0 && characters > CHARACTERS_MAX) break
    shown.unshift(entry)
  }
  const first = shown[0]
  const more = window.has_earlier || shown.length < window.entries.length
  const conversation = shown.map((entry) => renderEntry(entry.body)).join('\n\n')
  const older = more && first ? { before: first.position } : {}
  const hint =
    older.before === undefined ? '' : `[There is more before this: call again with before ${older.before}]\n\n`
  return answer({ agent_id, conversation, ...older }, hint + (conversation || 'It has said and done nothing yet.'))
}

function renderEntry(body: EntryBody): string {
  const text = textOf(body)
  if (text.length <= ENTRY_CHARACTERS_MAX) return text
  const half = ENTRY_CHARACTERS_MAX / 2
  return `${text.slice(0, half)}\n[… ${text.length - 2 * half} characters …]\n${text.slice(-half)}`
}

function textOf(body: EntryBody): string {
  switch (body.kind) {
    case 'prompt':
      return `## Prompt\n${body.text}`
    case 'text':
      return `## Agent\n${body.text}`
    case 'thought':
      return `## Thought\n${body.text}`
    case 'tool_call':
      return `## Tool ${body.name}\n${body.title}`
    case 'tool_result':
      return `## Result (${body.status})\n${body.output}`
    case 'plan':
      return `## Plan\n${body.items.map((item) => `- [${item.status}] ${item.content}`).join('\n')}`
    case 'output':
      return `## ${body.stream}\n${body.text}`
    case 'system':
      return `## Baton (${body.level})\n${body.text}`
    case 'gap':
      return `[${body.bytes} bytes are missing: ${body.reason}]`
    case 'unknown':
      return `## Unknown\n${JSON.stringify(body.raw)}`
  }
}

function readAgent(given: unknown): unknown {
  const asked = unpack(given)
  if (!isLoose(asked)) return asked
  return present({
    agent_id: pick(asked, 'agent_id', 'run_id', 'conversation_id', 'address', 'name'),
    before: pick(asked, 'before'),
    subtree: truth(pick(asked, 'subtree', 'cascade')),
  })
}
