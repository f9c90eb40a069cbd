import type { Command } from 'commander'
import { API_PREFIX } from '../../contract/index.ts'
import { type Context, clientOf, type Given, readAll } from '../context.ts'
import { CommandFailure } from '../exits.ts'

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']
const BODY_BYTES_MAX = 64 * 1024 * 1024

export function declare(command: Command): void {
  command
    .argument('<method>', 'GET, POST, PUT, PATCH or DELETE')
    .argument('<path>', 'such as /api/v1/agent/runs or agent/runs')
    .option('-d, --data <json>', 'body; - reads it from stdin')
    .option('-H, --header <header>', 'name: value; may be repeated', (value: string, before: string[] = []) => [
      ...before,
      value,
    ])
    .addHelpText('after', '\nExample: baton api GET "agent/runs?limit=3" --jq ".runs[].title"')
}

export async function run(context: Context, given: Given): Promise<void> {
  const method = (given.args[0] ?? '').toUpperCase()
  if (!METHODS.includes(method))
    throw new CommandFailure('usage', `"${given.args[0]}" is not a method.`, `Use one of ${METHODS.join(', ')}.`)
  const asked = new URL((given.args[1] ?? '').replace(/^(?!\/)/, '/'), 'http://path')
  const path =
    asked.pathname.startsWith('/api/') || asked.pathname === '/openapi.json'
      ? asked.pathname
      : API_PREFIX + asked.pathname
  const body = await bodyFrom(context, given.options.data)
  const response = await clientOf(context).raw(method, path, {
    query: asked.searchParams,
    headers: headersFrom(given.options.header),
    signal: context.signal,
    ...(body === undefined ? {} : { body }),
  })
  if (response.headers.get('content-type')?.includes('event-stream') && response.body) {
    const decoder = new TextDecoder()
    for await (const chunk of response.body) printText(context, decoder.decode(chunk, { stream: true }))
    return
  }
  const text = await response.text()
  if (text === '') return
  const value = parse(text)
  if (value === undefined) printText(context, text)
  else await context.out.show(value, () => JSON.stringify(value, null, 2).split('\n'))
}

function printText(context: Context, text: string): void {
  if (context.out.terminal) context.out.line(text.replace(/\n$/, ''))
  else context.out.raw(text)
}

async function bodyFrom(context: Context, given: unknown): Promise<unknown> {
  if (given === undefined) return undefined
  const text = given === '-' ? await readAll(context.stdin, BODY_BYTES_MAX, 'The body on stdin') : String(given)
  const value = parse(text)
  if (value === undefined) throw new CommandFailure('usage', 'The body is not JSON.')
  return value
}

function headersFrom(given: unknown): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const one of Array.isArray(given) ? given.map(String) : []) {
    const [, name, value] = /^([^:]+):\s*(.*)$/.exec(one) ?? []
    if (name === undefined || value === undefined)
      throw new CommandFailure('usage', `"${one}" is not a header.`, 'Write it as "name: value".')
    headers[name] = value
  }
  return headers
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
