/**
 * The demo's scripted orchestration: a parent that has three children look at the repository, hears from each, and
 * writes one report; and such a child. The words are written beforehand; every tool, run, message and file is real.
 *
 * What to say next follows from what was heard so far alone, so that it does not matter whether news came as the answer
 * of a tool, in a running turn or as the prompt of a new one.
 */
import type { LanguageModelV4Prompt } from '@ai-sdk/provider'
import type { ScriptTurnInput } from './scripted.ts'
import { COUNT, LOG, NO_KEY, REPORT, type Result, resultsOf } from './survey.ts'

const DOCS =
  'for f in README.md AGENTS.md package.json; do [ -f "$f" ] && printf "%s: %s lines\\n" "$f" "$(wc -l < "$f")"; done; ' +
  'grep -m1 "^# " README.md 2>/dev/null; git ls-files "*.md" 2>/dev/null | wc -l | sed "s/^ */documents: /"'
const TELL = 'Tell your parent what you find by a message, then finish.'

const AGENTS = [
  { name: 'count-files', title: 'Count the files by kind', harness_type: 'command', prompt: COUNT },
  {
    name: 'read-history',
    title: 'Look at the history',
    harness_type: 'baton',
    model_id: 'scripted',
    prompt: `Look at the history. ${TELL}`,
  },
  {
    name: 'read-docs',
    title: 'Read what explains it',
    harness_type: 'baton',
    model_id: 'scripted',
    prompt: `Read what explains it. ${TELL}`,
  },
] as const
const STEPS = ['Start three children', 'Hear from each of them', `Write ${REPORT}`] as const

const UUID = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'
/** A parent that has waited in vain this often reports what it has. */
const WAITS_MAX = 3
const SHOWN_CHARACTERS = 1500

const isParent = (asked: string) => /three children|orchestrat/i.test(asked)
const isChild = (asked: string) => asked.includes(TELL)

/** Undefined: this is no orchestration. */
export function orchestrate(prompt: LanguageModelV4Prompt): ScriptTurnInput | undefined {
  const said = prompt.flatMap((message) => (message.role === 'user' ? [textOf(message.content)] : []))
  const [asked = '', ...later] = said
  if (asked.includes('You were asked:')) return { text: `I have read it: ${later.at(-1) ?? asked.slice(-200)}` }
  if (isChild(asked)) return child(asked, prompt)
  if (mustPropose(asked)) return propose(prompt, later) ?? parent(prompt, later)
  return isParent(asked) ? parent(prompt, later) : undefined
}

/** The run is in mode plan or orchestrate. */
const mustPropose = (asked: string) => asked.includes('propose a plan with the tool propose_plan')
const ASKS_FOR_CHANGES = 'A person asks for changes before the plan can be approved:'

/** Undefined once its plan is approved. */
function propose(prompt: LanguageModelV4Prompt, later: string[]): ScriptTurnInput | undefined {
  const proposed = resultsOf(prompt).filter(({ name }) => name === tool('propose_plan')).length
  const changes = later.filter((text) => text.includes(ASKS_FOR_CHANGES))
  if (later.some((text) => text.includes('of your plan is approved'))) return undefined
  if (proposed > changes.length) return { text: 'The plan is with you. I wait for the answer.' }
  const asked = changes.at(-1)?.split(ASKS_FOR_CHANGES)[1]?.trim().split('\n')[0]
  const lines = AGENTS.map(({ name, title }) => `- \`${name}\`: ${title.toLowerCase()}`)
  const document = [
    '# Look at this repository with three agents',
    `> ${NO_KEY}`,
    `Three agents look at the same time, two at a time; I write \`${REPORT}\` from what they say.`,
    lines.join('\n'),
    'It is done when the report names what each of them found.',
    ...(asked === undefined ? [] : [`Changed as asked: ${asked}`]),
  ].join('\n\n')
  const agents = AGENTS.map(({ name, title, prompt, ...more }) => ({
    name,
    title,
    prompt,
    harness: more.harness_type,
    ...('model_id' in more ? { model_id: more.model_id } : {}),
    expected_return: 'what it found, in a few lines',
  }))
  return {
    text: 'I propose a plan first.',
    tools: [call('propose_plan', { plan: document, agents, config: { parallelism: 2 } })],
  }
}

function child(asked: string, prompt: LanguageModelV4Prompt): ScriptTurnInput {
  const results = resultsOf(prompt)
  const found = results.find(({ name }) => name === 'bash')
  if (found === undefined) {
    const command = asked.includes('history') ? LOG : DOCS
    return { text: 'I look.', tools: [{ name: 'bash', input: { command } }] }
  }
  if (!results.some(({ name }) => name === tool('send_message_to_agent'))) {
    const message = found.text.slice(0, SHOWN_CHARACTERS)
    return { tools: [call('send_message_to_agent', { addresses: ['parent'], subject: 'What I found', message })] }
  }
  return { text: 'I have told my parent what I found.' }
}

function parent(prompt: LanguageModelV4Prompt, later: string[]): ScriptTurnInput {
  const results = resultsOf(prompt)
  const started = results.find(({ name }) => name === tool('run_agents'))
  if (started === undefined) {
    return {
      text: `${NO_KEY} Three children will look at this repository at the same time; I write the report.`,
      thought: 'One counts, one reads the history, one reads the documents. Then I wait for all of them.',
      tools: [plan(0), call('run_agents', { agent_run_configs: [...AGENTS] })],
    }
  }
  const children = AGENTS.map((agent) => ({ ...agent, run_id: idAfter(started.text, agent.name) }))
  const born = children.filter(({ run_id }) => run_id !== undefined)
  if (born.length === 0) return { text: `None of my children could be started: ${started.text.slice(0, 500)}` }
  const waits = results.filter(({ name }) => name === tool('wait_for_events'))
  const news = [...waits.map(({ text }) => text), ...later].join('\n\n---\n\n')
  const missing = born.filter(({ run_id = '', harness_type }) => !hasReported(news, run_id, harness_type))
  const in_vain = news.split('Nothing came in the time').length - 1
  if (missing.length > 0 && in_vain < WAITS_MAX) return goOnWaiting(prompt, missing, waits.length)
  const counter = born.find(({ harness_type }) => harness_type === 'command')?.run_id
  const fetched = results.find(({ name }) => name === tool('fetch_conversation'))
  if (counter !== undefined && fetched === undefined) {
    return { text: 'All have reported.', tools: [plan(2), call('fetch_conversation', { agent_id: counter })] }
  }
  if (!results.some(({ name }) => name === 'write')) {
    const sections = children.map(({ title, name, run_id = '', harness_type }) => {
      const words = harness_type === 'command' ? outputIn(fetched?.text ?? '') : messageFrom(news, run_id)
      const who = `\`${name}\`${run_id === '' ? ', which could not be started' : ` (run ${run_id})`}`
      return `## ${title}\n\nBy ${who}:\n\n\`\`\`\n${words}\n\`\`\`\n`
    })
    const content = `# What three agents found in this repository\n\n> ${NO_KEY}\n\n${sections.join('\n')}`
    return { tools: [{ name: 'write', input: { path: REPORT, content } }, plan(3)] }
  }
  const summary = `${born.length - missing.length} of ${AGENTS.length} children reported; the report is in ${REPORT}.`
  if (!results.some(({ name }) => name === tool('finish_task')))
    return { tools: [call('finish_task', { success: missing.length === 0, summary })] }
  return { text: `${summary} (Scripted words, real agents and messages.)` }
}

/** A wait that has just answered with nothing says that the turn is to end; what comes begins the next one. */
function goOnWaiting(prompt: LanguageModelV4Prompt, missing: { name: string }[], waits: number): ScriptTurnInput {
  const names = missing.map(({ name }) => name).join(', ')
  const last = prompt.at(-1)
  const answer =
    last?.role === 'tool' ? resultsOf([last]).find(({ name }) => name === tool('wait_for_events')) : undefined
  if (answer?.text.includes('Nothing has come yet')) return { text: `Nothing yet from ${names}. I wait.` }
  const tools = [...(waits === 0 ? [plan(1)] : []), call('wait_for_events', {})]
  return { text: `I wait for ${names}.`, tools }
}

/** A child with a model reports by a message; a command's end is its report, and so is any end without success. */
function hasReported(news: string, run_id: string, harness_type: string): boolean {
  if (new RegExp(`run ${run_id}\\) (has failed|has ended|was cancelled)`).test(news)) return true
  return harness_type === 'command'
    ? new RegExp(`run ${run_id}\\) has succeeded`).test(news)
    : news.includes(`(run ${run_id})\nSubject:`)
}

function messageFrom(news: string, run_id: string): string {
  const letter = news.split('\n\n---\n\n').find((one) => one.includes(`(run ${run_id})\nSubject:`))
  return letter?.slice(letter.indexOf('\n\n') + 2).trim() ?? 'It told nothing.'
}

/** The lines of a conversation that the command wrote. */
function outputIn(conversation: string): string {
  const lines = conversation.split('\n').filter((line) => /^\s*\d+ \w+$|^(files|lines): *\d+/.test(line))
  return lines.length > 0 ? lines.join('\n') : conversation.slice(-SHOWN_CHARACTERS)
}

/** The first id after a name, when no other name stands between them. */
function idAfter(text: string, name: string): string | undefined {
  const from = text.indexOf(name)
  const rest = from === -1 ? '' : text.slice(from + name.length)
  const next = AGENTS.map((agent) => rest.indexOf(`- ${agent.name}:`)).filter((at) => at >= 0)
  return new RegExp(UUID).exec(rest.slice(0, Math.min(rest.length, ...next)))?.[0]
}

function textOf(content: { type: string }[]): string {
  return content.flatMap((part) => ('text' in part && typeof part.text === 'string' ? [part.text] : [])).join('\n')
}

function plan(done: number) {
  const status = (at: number) => (at < done ? 'completed' : at === done ? 'in_progress' : 'pending')
  return { name: 'todo', input: { items: STEPS.map((content, at) => ({ content, status: status(at) })) } }
}

const tool = (name: string): Result['name'] => `mcp__baton__${name}`
const call = (name: string, input: object) => ({ name: tool(name), input })
