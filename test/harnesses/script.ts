/**
 * The scripted model on loopback. What it does is said in the prompt: `DIRECTIVE:EDIT` writes notes.txt with the
 * harness's own tool, `DIRECTIVE:HANG` runs a command that does not end, `DIRECTIVE:WHERE` has the shell write its
 * folder into where.txt there, `DIRECTIVE:RECALL` tells whether the word of an earlier turn is in what it was sent
 * before that. It goes by the last directive in the conversation, since harnesses put words of their own around a
 * prompt.
 */
import { type ChatCompletionRequest, LLMock } from '@copilotkit/aimock'

export const WORD = 'xylophone-7'
export const EDIT = `DIRECTIVE:EDIT Write notes.txt. Keep the word ${WORD} in mind.`
export const HANG = 'DIRECTIVE:HANG Run the command.'
export const WHERE = 'DIRECTIVE:WHERE Write down where you are.'
export const RECALL = 'DIRECTIVE:RECALL Which word was it?'
/** Claude Code refuses a bare `sleep`. */
export const HANGING = 'tail -f hang.txt'

export type Script = { url: string; requests(): number; stop(): Promise<void> }

/** In the spellings of all three APIs; each reads its own. */
const USAGE = {
  input_tokens: 100,
  output_tokens: 10,
  prompt_tokens: 100,
  completion_tokens: 10,
  total_tokens: 110,
  promptTokenCount: 100,
  candidatesTokenCount: 10,
  totalTokenCount: 110,
}

type Call = { name: string; input: Record<string, unknown> }

export async function startScript(workspace: string): Promise<Script> {
  const model = new LLMock({ port: 0 })
  model.on({ predicate: () => true }, (request: ChatCompletionRequest) => ({
    ...answer(request, workspace),
    usage: USAGE,
  }))
  await model.start()
  return { url: model.url, requests: () => model.getRequests().length, stop: () => model.stop() }
}

function answer(request: ChatCompletionRequest, workspace: string) {
  const tools = (request.tools ?? []).map((tool) => tool.function.name)
  if (tools.length === 0) return { content: '{"reasoning":"plain","model_choice":"flash","title":"Test"}' }
  const texts = request.messages.map((message) => JSON.stringify(message.content ?? ''))
  const at = texts.findLastIndex((text) => text.includes('DIRECTIVE:'))
  if (at < 0) return { content: 'There is nothing to do.' }
  const directive = /DIRECTIVE:(\w+)(?!.*DIRECTIVE:)/.exec(texts[at] ?? '')?.[1]
  if (request.messages.slice(at + 1).some((message) => message.role === 'tool')) return { content: 'Done as asked.' }
  if (directive === 'RECALL') {
    const asked = texts[at] ?? ''
    const earlier = [...texts.slice(0, at), asked.slice(0, asked.lastIndexOf('DIRECTIVE:'))]
    const known = earlier.some((text) => text.includes(WORD))
    return { content: known ? `The word was ${WORD}.` : 'I know of no word.' }
  }
  const call = callFor(directive, tools, workspace)
  if (call === null) return { content: `No tool fits among ${tools.join(', ')}.` }
  return { toolCalls: [{ name: call.name, arguments: JSON.stringify(call.input) }] }
}

function callFor(directive: string | undefined, tools: string[], workspace: string): Call | null {
  if (directive === 'HANG') return shell(tools, `touch hang.txt; ${HANGING}`)
  return directive === 'WHERE' ? shell(tools, 'pwd > where.txt') : edit(tools, workspace)
}

function edit(tools: string[], workspace: string): Call | null {
  const path = `${workspace}/notes.txt`
  const content = 'written by the agent\n'
  if (tools.includes('Write')) return { name: 'Write', input: { file_path: path, content } }
  if (tools.includes('write_file')) return { name: 'write_file', input: { file_path: path, content } }
  if (tools.includes('write')) return { name: 'write', input: { filePath: path, path, content } }
  return shell(tools, 'printf "written by the agent\\n" > notes.txt')
}

/** In whichever tool of the harness runs a command; null where none does. */
export function shell(tools: string[], command: string): Call | null {
  const description = 'Run it'
  if (tools.includes('Bash')) return { name: 'Bash', input: { command, description, timeout: 600_000 } }
  if (tools.includes('bash')) return { name: 'bash', input: { command, description } }
  if (tools.includes('run_shell_command')) return { name: 'run_shell_command', input: { command, description } }
  if (tools.includes('exec_command')) return { name: 'exec_command', input: { cmd: command, yield_time_ms: 30_000 } }
  if (tools.includes('shell_command')) return { name: 'shell_command', input: { command } }
  if (tools.includes('shell')) return { name: 'shell', input: { command: ['sh', '-c', command] } }
  return null
}
