/**
 * The scripted model of whole trees. What it says next follows from the conversation alone, so that it does not matter
 * when a message comes, nor how: in a tool's answer, joined to a turn, as a prompt, or told of as context.
 *
 * `ROLE:LEAD [a b]` starts agents a and b, each in the harness of its name, and waits for their drafts; corrects each
 * draft with a word of its own; waits until each has sent its final text and ended; recalls each, waits for what it
 * remembers, and reports all that it was told. `ROLE:CREW [a]` is the other half. `ROLE:PATIENT [n]` waits for n
 * messages.
 */
import { type ChatCompletionRequest, LLMock } from '@copilotkit/aimock'
import { codexMount, RESPONSES_PATH } from './codex-responses.ts'

export type Said = { role: 'asked' | 'said'; text: string; calls: Call[] }
export type Call = { name: string; input: Record<string, unknown> }
export type Answer = { content: string } | Call
/** One request of a harness as the script reads it. */
export type Asked = { said: Said[]; tools: string[] }

export type TreeScript = {
  url: string
  /** Where Codex finds its model: the mock makes no namespaces of tools. */
  codex_url: string
  /** The names under which the agent of such a prompt was shown Baton's tools. */
  toolsOf(prompt: string): string[]
  stop(): Promise<void>
}

/** In the spellings of all three APIs; each reads its own. */
export const USAGE = {
  input_tokens: 100,
  output_tokens: 10,
  prompt_tokens: 100,
  completion_tokens: 10,
  total_tokens: 110,
  promptTokenCount: 100,
  candidatesTokenCount: 10,
  totalTokenCount: 110,
}

export async function startTreeScript(): Promise<TreeScript> {
  const model = new LLMock({ port: 0 })
  const seen = new Map<string, string[]>()
  const next = (asked: Asked): Answer => {
    const [role] = ROLE.exec(heard(asked.said)) ?? []
    const own = asked.tools.filter((name) => TOOLS.some((tool) => name.endsWith(tool)))
    if (role !== undefined && own.length > 0) seen.set(role, own.sort())
    return answer(asked)
  }
  model.on({ predicate: () => true }, (request: ChatCompletionRequest) => {
    const given = next(asked(request))
    const call = 'name' in given ? { toolCalls: [{ name: given.name, arguments: JSON.stringify(given.input) }] } : given
    return { ...call, usage: USAGE }
  })
  model.mount(RESPONSES_PATH, codexMount(next))
  await model.start()
  return {
    url: model.url,
    codex_url: `${model.url}${RESPONSES_PATH}`,
    toolsOf: (prompt) => seen.get(ROLE.exec(prompt)?.[0] ?? '') ?? [],
    stop: () => model.stop(),
  }
}

const TOOLS = ['run_agents', 'send_message_to_agent', 'wait_for_events', 'finish_task']
/** As text, or as the structured answer that Claude Code shows instead. */
const NOTHING_YET = /Nothing has come yet|"nothing_yet"/
const ROLE = /ROLE:(LEAD|CREW|PATIENT) \[([\w -]*)\]/

export const leadPrompt = (names: string[]) => `ROLE:LEAD [${names.join(' ')}] Lead your agents to a report.`
export const crewPrompt = (name: string) => `ROLE:CREW [${name}] Send your parent a draft, and do what it then says.`
export const patientPrompt = (messages: number) => `ROLE:PATIENT [${messages}] Wait for messages, one after another.`
/** Told to the one agent alone, in the lead's correction. */
export const wordFor = (name: string) => `${name}-${[...name].reverse().join('')}`

function asked(request: ChatCompletionRequest): Asked {
  return {
    tools: (request.tools ?? []).map((tool) => tool.function.name),
    said: request.messages
      .filter((message) => message.role !== 'system')
      .map((message) => ({
        role: message.role === 'assistant' ? 'said' : 'asked',
        text: textOf(message.content),
        calls: (message.tool_calls ?? []).map((call) => ({
          name: call.function.name,
          input: JSON.parse(call.function.arguments || '{}') as Record<string, unknown>,
        })),
      })),
  }
}

const textOf = (content: ChatCompletionRequest['messages'][number]['content']): string =>
  typeof content === 'string' ? content : (content ?? []).map((part) => part.text ?? '').join('\n')

/** All that the agent was told, whatever the way: prompts and answers of tools. */
const heard = (said: Said[]): string =>
  said
    .filter(({ role }) => role === 'asked')
    .map(({ text }) => text)
    .join('\n')

type Turn = {
  said: Said[]
  /** The names of the role. */
  names: string[]
  /** A call of Baton's tool in the harness's own spelling. */
  use(tool: string, input: Record<string, unknown>): Answer
  /** Whether that tool was called with an input in which this text is, after so many messages. */
  used(tool: string, text: string, after?: number): boolean
  /** `wait_for_events`, or the end of the turn where that said so. */
  wait(): Answer
}

function answer({ said, tools }: Asked): Answer {
  // Gemini's router and the titles of sessions have no tools, and want JSON or do not care.
  if (tools.length === 0) return { content: '{"reasoning":"plain","model_choice":"flash","title":"Test"}' }
  const [, role, names = ''] = ROLE.exec(heard(said)) ?? []
  if (role === undefined) return { content: 'There is nothing to do.' }
  const use = (tool: string, input: Record<string, unknown>): Answer => {
    const name = tools.find((one) => one.endsWith(tool))
    return name === undefined ? { content: `No tool fits among ${tools.join(', ')}.` } : { name, input }
  }
  const turn: Turn = {
    said,
    names: names.split(' '),
    use,
    used: (tool, text, after = 0) =>
      said
        .slice(after)
        .some(({ calls }) =>
          calls.some((call) => call.name.endsWith(tool) && JSON.stringify(call.input).includes(text)),
        ),
    wait: () => (NOTHING_YET.test(said.at(-1)?.text ?? '') ? { content: 'I wait.' } : use('wait_for_events', {})),
  }
  switch (role) {
    case 'LEAD':
      return lead(turn)
    case 'CREW':
      return crew(turn)
    default:
      return patient(turn)
  }
}

function lead({ said, names, use, used, wait }: Turn): Answer {
  const told = heard(said)
  if (!used('run_agents', 'ROLE:CREW')) {
    const agent_run_configs = names.map((name) => ({
      name,
      prompt: crewPrompt(name),
      harness_type: name,
      ...(name === 'codex' ? { model_id: 'mock' } : {}),
    }))
    return use('run_agents', { agent_run_configs })
  }
  const tell = (name: string, subject: string, message: string) =>
    use('send_message_to_agent', { addresses: [name], subject, message })
  const corrected = (name: string) => used('send_message_to_agent', `CORRECTION:${wordFor(name)}`)
  const drafted = names.find((name) => told.includes(`DRAFT of ${name}.`) && !corrected(name))
  if (drafted !== undefined) return tell(drafted, 'A correction', `CORRECTION:${wordFor(drafted)} is the word to use.`)
  const isFinal = (name: string) =>
    told.includes(`FINAL of ${name} with ${wordFor(name)}.`) && new RegExp(`Your agent \\\\?"${name}\\b`).test(told)
  const recalled = (name: string) => used('send_message_to_agent', `RECALL:${name}`)
  const ended = names.find((name) => isFinal(name) && !recalled(name))
  if (ended !== undefined) return tell(ended, 'A question', `RECALL:${ended}, which word was it?`)
  const remembered = (name: string) => told.includes(`MEMORY of ${name}: ${wordFor(name)}.`)
  if (!names.every(remembered)) return wait()
  const report = names.map((name) => `${name} gave ${wordFor(name)} and kept it`).join('; ')
  if (!used('finish_task', 'summary')) return use('finish_task', { success: true, summary: `REPORT: ${report}.` })
  return { content: `REPORT: ${report}.` }
}

function crew({ said, names, use, used, wait }: Turn): Answer {
  const name = names[0] ?? ''
  const told = heard(said)
  const tellParent = (subject: string, message: string) =>
    use('send_message_to_agent', { addresses: ['parent'], subject, message })
  const [, word = 'nothing'] = /CORRECTION:(\S+)/.exec(told) ?? /I used (\S+)\./.exec(told) ?? []
  if (told.includes(`RECALL:${name}`)) {
    if (!used('send_message_to_agent', 'MEMORY of')) return tellParent('What I remember', `MEMORY of ${name}: ${word}.`)
    return { content: `I remembered ${word}.` }
  }
  if (told.includes('CORRECTION:')) {
    if (!used('send_message_to_agent', 'FINAL of')) return tellParent('The result', `FINAL of ${name} with ${word}.`)
    return { content: `I used ${word}.` }
  }
  if (!used('send_message_to_agent', 'DRAFT of')) return tellParent('A draft', `DRAFT of ${name}.`)
  return wait()
}

function patient({ said, names, wait }: Turn): Answer {
  const wanted = Number(names[0])
  const told = heard(said)
  for (let number = 1; number <= wanted; number++) if (!told.includes(`MESSAGE ${number}.`)) return wait()
  return { content: `I have all ${wanted} messages.` }
}
