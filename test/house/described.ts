/**
 * Whether an answer is what the OpenAPI document says of it: status, type of content and body, and nothing beside. The
 * document is read as any client would read it, without the contract that it was rendered from.
 */
import { z } from 'zod'

const Media = z.object({ schema: z.record(z.string(), z.unknown()) })
const Content = z.record(z.string(), Media)
const Described = z.object({ content: Content.optional(), headers: z.record(z.string(), z.unknown()).optional() })
const Document = z.object({
  paths: z.record(z.string(), z.record(z.string(), z.object({ responses: z.record(z.string(), z.unknown()) }))),
  components: z.object({ schemas: z.record(z.string(), z.unknown()), responses: z.record(z.string(), Described) }),
})

export type Answered = { method: string; path: string; status: number; headers: Headers; text: string }

/** `check` throws where an answer differs, and says how. */
export function describedBy(document: unknown): { check(answer: Answered): void } {
  const { paths, components } = Document.parse(document)
  const $defs = eachClosed(components.schemas)
  const forms = new Map<unknown, z.ZodType>()
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { responses }]) => ({ method, parts: path.split('/'), responses })),
  )

  /** That with the most parts written out, as the server takes it. */
  function responsesOf(method: string, path: string) {
    const given = path.replace(/\?.*$/, '').split('/')
    const isAt = (part: string, at: number) => (part.startsWith('{') ? given[at] !== '' : part === given[at])
    const found = operations.filter(
      (one) => one.method === method.toLowerCase() && one.parts.length === given.length && one.parts.every(isAt),
    )
    const open = (parts: string[]) => parts.filter((part) => part.startsWith('{')).length
    return found.sort((a, b) => open(a.parts) - open(b.parts))[0]?.responses
  }

  function formOf(schema: Record<string, unknown>): z.ZodType {
    const known = forms.get(schema)
    if (known) return known
    const form = z.fromJSONSchema({ ...(closed(schema) as object), $defs } as Parameters<typeof z.fromJSONSchema>[0])
    forms.set(schema, form)
    return form
  }

  function check({ method, path, status, headers, text }: Answered): void {
    const responses = responsesOf(method, path)
    // What the document does not know is refused as everything is.
    const said = responses?.[status] ?? components.responses.Problem
    const where = `${method} ${path} → ${status}`
    const described = Described.parse(said)
    const type = headers.get('content-type')?.replace(/;.*$/, '') ?? ''
    if (described.content === undefined) {
      if (text !== '') throw new Error(`${where} has a body, and the document knows none: ${text}`)
      return
    }
    const media = described.content[type]
    if (!media) throw new Error(`${where} is ${type}; the document knows ${Object.keys(described.content).join(', ')}.`)
    for (const name of Object.keys(described.headers ?? {}))
      if (!headers.has(name)) throw new Error(`${where} lacks the header ${name}.`)
    if (type === 'text/event-stream') return
    const parsed = formOf(media.schema).safeParse(JSON.parse(text))
    if (!parsed.success) throw new Error(`${where} is not as described: ${z.prettifyError(parsed.error)}\n${text}`)
  }

  return { check }
}

/** As it stands, but that references lead into `$defs`, and an object has no properties beside those that are named. */
function closed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closed)
  if (typeof schema !== 'object' || schema === null) return schema
  const parts = Object.entries(schema).map(([name, value]): [string, unknown] => {
    if (name === '$ref') return [name, String(value).replace('#/components/schemas/', '#/$defs/')]
    return [name, name === 'properties' ? eachClosed(Object(value)) : closed(value)]
  })
  const is_open = 'properties' in schema && !('additionalProperties' in schema)
  return Object.fromEntries(is_open ? [...parts, ['additionalProperties', false]] : parts)
}

const eachClosed = (schemas: object): Record<string, unknown> =>
  Object.fromEntries(Object.entries(schemas).map(([name, schema]) => [name, closed(schema)]))
