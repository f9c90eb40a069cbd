/**
 * The Responses API as Codex speaks it. Codex lists the tools of an MCP server as a namespace and expects calls of them
 * as `{namespace, name}`, which the mock does not make.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { z } from 'zod'
import { type Answer, type Asked, type Said, USAGE } from './tree-script.ts'

export const RESPONSES_PATH = '/codex'
/** Between namespace and name, as the script spells both in one. */
const JOINT = '.'

const Text = z.union([
  z.string(),
  z
    .array(z.looseObject({ text: z.string().optional() }))
    .transform((parts) => parts.map((p) => p.text ?? '').join('\n')),
])
const Item = z.looseObject({
  type: z.string().optional(),
  role: z.string().optional(),
  content: Text.optional().catch(undefined),
  namespace: z.string().nullish(),
  name: z.string().optional(),
  arguments: z.string().optional(),
  output: Text.optional().catch(undefined),
})
const Tool = z.looseObject({ type: z.string(), name: z.string().optional() })
const Request = z.looseObject({
  model: z.string(),
  input: z.array(Item),
  tools: z.array(Tool.extend({ tools: z.array(Tool).optional() })).default([]),
})

export const codexMount = (next: (asked: Asked) => Answer) => ({
  async handleRequest(request: IncomingMessage, response: ServerResponse, pathname: string): Promise<boolean> {
    if (!pathname.endsWith('/responses')) return false
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(Buffer.from(chunk as Uint8Array))
    const { model, input, tools } = Request.parse(JSON.parse(Buffer.concat(chunks).toString('utf8')))
    const item = outputItem(next({ said: input.flatMap(saidOf), tools: tools.flatMap(namesOf) }))
    const id = `resp_${crypto.randomUUID()}`
    const events = [
      { type: 'response.created', response: { id, object: 'response', model, status: 'in_progress', output: [] } },
      { type: 'response.output_item.added', output_index: 0, item: { ...item, status: 'in_progress' } },
      { type: 'response.output_item.done', output_index: 0, item },
      {
        type: 'response.completed',
        response: { id, object: 'response', model, status: 'completed', output: [item], usage: USAGE },
      },
    ]
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.end(events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join(''))
    return true
  },
})

function outputItem(answer: Answer) {
  if (!('name' in answer)) {
    const content = [{ type: 'output_text', text: answer.content, annotations: [] }]
    return { type: 'message', id: `msg_${crypto.randomUUID()}`, role: 'assistant', status: 'completed', content }
  }
  const id = crypto.randomUUID()
  const [namespace, name] = answer.name.split(JOINT)
  return {
    type: 'function_call',
    id: `fc_${id}`,
    call_id: `call_${id}`,
    ...(name === undefined ? { name: namespace } : { namespace, name }),
    arguments: JSON.stringify(answer.input),
    status: 'completed',
  }
}

function saidOf(item: z.infer<typeof Item>): Said[] {
  if (item.type === 'function_call') {
    const name = [item.namespace, item.name].filter(Boolean).join(JOINT)
    const input = JSON.parse(item.arguments || '{}') as Record<string, unknown>
    return [{ role: 'said', text: '', calls: [{ name, input }] }]
  }
  if (item.type === 'function_call_output') return [{ role: 'asked', text: item.output ?? '', calls: [] }]
  if (item.role !== 'user' && item.role !== 'assistant') return []
  return [{ role: item.role === 'user' ? 'asked' : 'said', text: item.content ?? '', calls: [] }]
}

const namesOf = ({ type, name = '', tools = [] }: z.infer<typeof Request>['tools'][number]): string[] =>
  type === 'namespace' ? tools.map((tool) => `${name}${JOINT}${tool.name ?? ''}`) : [name]
