import type { Command } from 'commander'
import { API_PREFIX } from '../../contract/index.ts'
import { readText } from '../asking.ts'
import { type Context, clientOf, type Given, readAll } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { collect } from '../named.ts'

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']
/** What a server answers outside of the API. */
const AT_THE_ROOT = /^\/(api|\.well-known)\/|^\/(openapi\.json|current_time|client\/login|mcp)$/
const BODY_BYTES_MAX = 64 * 1024 * 1024

export function declare(command: Command): void {
  command
    .argument('<method>', 'GET, POST, PUT, PATCH or DELETE')
    .argument('<path>', 'such as /api/v1/agent/runs or agent/runs')
    .option('-d, --data <json>', 'body; - reads it from stdin, @FILE from a file')
    .option(
      '-f, --field <name=value>',
      'a field of the body, of the query where there is none; JSON where it is some, else text; may be repeated',
      collect,
    )
    .option('-H, --header <header>', 'name: value; may be repeated', collect)
    .addHelpText(
      'after',
      `
Examples:
  baton api GET "agent/runs?limit=3" --jq ".runs[].title"
  baton api GET agent/runs -f state=QUEUED -f state=INPROGRESS -f "metadata[ticket]=V-1"
  baton api POST agent/runs -f prompt="echo hello" -f config='{"harness":{"type":"command"}}'
  baton api POST agent/runs/RUN_ID/cancel -d null`,
    )
}

export async function run(context: Context, given: Given): Promise<void> {
  const method = (given.args[0] ?? '').toUpperCase()
  if (!METHODS.includes(method))
    throw new CommandFailure('usage', `"${given.args[0]}" is not a method.`, `Use one of ${METHODS.join(', ')}.`)
  const asked = new URL((given.args[1] ?? '').replace(/^(?!\/)/, '/'), 'http://path')
  const path = AT_THE_ROOT.test(asked.pathname) ? asked.pathname : API_PREFIX + asked.pathname
  const fields = readFields(given.options.field)
  const has_body = method !== 'GET' && method !== 'DELETE'
  if (!has_body) for (const [name, value] of fields) asked.searchParams.append(name, value)
  if (method === 'GET' && given.options.data !== undefined)
    throw new CommandFailure('usage', 'A GET has no body.', 'Say what is asked for with -f NAME=VALUE.')
  const body = await bodyFrom(context, given.options.data, has_body ? fields : [])
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

async function bodyFrom(context: Context, given: unknown, fields: [string, string][]): Promise<unknown> {
  const of_fields = Object.fromEntries(fields.map(([name, value]) => [name, parse(value) ?? value]))
  if (given === undefined) return fields.length === 0 ? undefined : of_fields
  if (fields.length > 0)
    throw new CommandFailure('usage', '--data is the whole body, beside which there are no fields of it.')
  const value = parse(await textFrom(context, String(given)))
  if (value === undefined) throw new CommandFailure('usage', 'The body is not JSON.')
  return value
}

async function textFrom(context: Context, given: string): Promise<string> {
  if (given === '-') return readAll(context.stdin, BODY_BYTES_MAX, 'The body on stdin')
  return given.startsWith('@') ? readText(context, given.slice(1), 'The body') : given
}

/** `NAME=VALUE` in their order; a name may be given again. */
function readFields(given: unknown): [string, string][] {
  return (Array.isArray(given) ? given.map(String) : []).map((pair) => {
    const at = pair.indexOf('=')
    if (at <= 0) throw new CommandFailure('usage', `--field "${pair}" is not NAME=VALUE.`)
    return [pair.slice(0, at), pair.slice(at + 1)]
  })
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
