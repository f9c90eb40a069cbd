/** The reference page: the OpenAPI document as plain HTML without scripts, for the strictest policy. */
import type { JsonSchema, OpenApi, Operation } from './openapi.ts'

export function renderReference(document: OpenApi): { html: string; css: string } {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  )
  const shown = operations.filter(({ operation }) => operation.deprecated !== true)
  const sections = document.tags.map(({ name }) => {
    const own = shown.filter(({ operation }) => operation.tags.includes(name))
    const articles = own.map((one) => renderOperation(one, operations)).join('')
    return `<section><h2 id="${slug(name)}">${text(name)}</h2>${articles}</section>`
  })
  const schemas = Object.entries(document.components.schemas).map(
    ([name, schema]) =>
      `<details id="schema-${text(name)}"><summary><code>${text(name)}</code></summary>${renderSchema(schema)}</details>`,
  )
  const toc = [
    ...document.tags.map(({ name }) => `<a href="#${slug(name)}">${text(name)}</a>`),
    '<a href="#schemas">Schemas</a>',
  ]
  const { title, version, description } = document.info
  const html = `<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Baton API reference</title><link rel="stylesheet" href="/reference.css"></head><body>
<header><h1>${text(title)} API <small>${text(version)}</small></h1><p>${text(description)}</p>
<p>Machine-readable: <a href="/openapi.json">openapi.json</a>.
Refusals are <code>application/problem+json</code>.</p></header>
<nav aria-label="Contents">${toc.join(' · ')}</nav><main>${sections.join('')}
<section><h2 id="schemas">Schemas</h2>${schemas.join('')}</section></main></body></html>`
  return { html, css: CSS }
}

type Shown = { path: string; method: string; operation: Operation }

function renderOperation({ path, method, operation }: Shown, all: Shown[]): string {
  const aliases = all.filter(
    (one) =>
      one.operation.deprecated === true &&
      one.operation.operationId.replace(/_alias\d*$/, '') === operation.operationId,
  )
  const callers = callersOf(operation)
  const parameters = (operation.parameters ?? []).map(
    (one) =>
      `<tr><td><code>${text(one.name)}</code></td><td>${one.in}${one.required ? ', required' : ''}</td><td>${typeOf(one.schema)}${one.description ? `<br>${text(one.description)}` : ''}</td></tr>`,
  )
  const body = operation.requestBody?.content['application/json']
  const answer = Object.entries(operation.responses).find(([status]) => status !== 'default')
  const also = aliases.map((one) => `<code>${text(one.path)}</code>`).join(', ')
  const head = '<thead><tr><th>Parameter</th><th>Where</th><th>Type</th></tr></thead>'
  const example = body?.example === undefined ? '' : `<pre>${text(JSON.stringify(body.example, null, 2))}</pre>`
  return [
    `<article id="${text(operation.operationId)}">`,
    `<h3><span class="method ${method}">${method.toUpperCase()}</span> <code>${text(path)}</code></h3>`,
    `<p>${text(operation.summary)}</p>`,
    `<p class="note">For ${text(callers)}.${also === '' ? '' : ` Also at ${also}.`}</p>`,
    parameters.length === 0 ? '' : `<table>${head}<tbody>${parameters.join('')}</tbody></table>`,
    body ? `<h4>Body</h4>${renderSchema(body.schema)}${example}` : '',
    answer ? `<h4>Answer <small>${text(answer[0])}</small></h4>${renderAnswer(answer[1])}` : '',
    '</article>',
  ].join('\n')
}

function callersOf(operation: Operation): string {
  const callers = operation['x-callers'].map((kind) => {
    if (kind !== 'user') return kind
    return `user (${operation['x-role'] ?? ''}${operation['x-people'] ? '; not for agents' : ''})`
  })
  return callers.length === 0 ? 'anybody' : callers.join(', ')
}

function renderAnswer(answer: unknown): string {
  const { content } = answer as { content?: Record<string, { schema: JsonSchema }> }
  return Object.entries(content ?? {})
    .map(([type, { schema }]) => `<p class="note">${text(type)}</p>${renderSchema(schema)}`)
    .join('')
}

function renderSchema(schema: JsonSchema): string {
  const properties = schema.properties
  if (typeof properties !== 'object' || properties === null) return `<p>${typeOf(schema)}</p>`
  const required = Array.isArray(schema.required) ? schema.required : []
  const rows = Object.entries(properties as Record<string, JsonSchema>).map(
    ([name, one]) =>
      `<tr><td><code>${text(name)}</code>${required.includes(name) ? '' : ' <small>optional</small>'}</td><td>${typeOf(one)}</td></tr>`,
  )
  return `<table><tbody>${rows.join('')}</tbody></table>`
}

/** A schema in a line; named ones by their name. */
function typeOf(schema: JsonSchema): string {
  const {
    $ref,
    const: only,
    enum: among,
    type,
    items,
    anyOf,
    oneOf,
    additionalProperties,
  } = schema as Record<string, unknown>
  if (typeof $ref === 'string') {
    const name = text($ref.split('/').at(-1) ?? '')
    return `<a href="#schema-${name}">${name}</a>`
  }
  if (only !== undefined) return `<code>${text(JSON.stringify(only))}</code>`
  if (Array.isArray(among)) return among.map((one) => `<code>${text(JSON.stringify(one))}</code>`).join(' | ')
  const choices = Array.isArray(anyOf) ? anyOf : Array.isArray(oneOf) ? oneOf : null
  if (choices) return choices.map((one) => (isObject(one) ? typeOf(one) : '')).join(' | ')
  if (type === 'array') return `list of ${isObject(items) ? typeOf(items) : 'anything'}`
  if (type === 'object') {
    if (isObject(schema.properties)) return renderSchema(schema)
    return isObject(additionalProperties) ? `map to ${typeOf(additionalProperties)}` : 'object'
  }
  if (typeof type !== 'string') return 'anything'
  const notes = ['format', 'pattern', 'minimum', 'maximum', 'minLength', 'maxLength', 'default'].flatMap((name) => {
    const value = schema[name]
    return value === undefined ||
      Math.abs(Number(value)) >= Number.MAX_SAFE_INTEGER ||
      (name === 'pattern' && schema.format !== undefined)
      ? []
      : [`${name} ${JSON.stringify(value)}`]
  })
  return `${text(type)}${notes.length > 0 ? ` <small>${text(notes.join(', '))}</small>` : ''}`
}

const isObject = (value: unknown): value is JsonSchema =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const slug = (name: string): string => encodeURIComponent(name.toLowerCase())
const text = (plain: string): string =>
  plain.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')

const CSS = `:root { color-scheme: light dark; --line: #8884; --quiet: #667; }
@media (prefers-color-scheme: dark) { :root { --quiet: #aab; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
nav { position: sticky; top: 0; background: Canvas; padding: .5rem 0; border-bottom: 1px solid var(--line); }
h2 { margin-top: 2.5rem; } h3 { margin: 0; font-size: 1rem; overflow-wrap: anywhere; } h4 { margin: .75rem 0 .25rem; }
article { border: 1px solid var(--line); border-radius: 8px; padding: .75rem 1rem; margin: 1rem 0; }
article { scroll-margin-top: 3rem; }
.method { font-size: .75rem; padding: .1rem .4rem; border: 1px solid currentColor; border-radius: 4px; }
.note, small { color: var(--quiet); } .note { margin: .25rem 0; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .25rem .5rem; }
td, th { border-top: 1px solid var(--line); overflow-wrap: anywhere; }
pre { overflow: auto; border: 1px solid var(--line); border-radius: 6px; padding: .5rem; }
details { margin: .25rem 0; scroll-margin-top: 3rem; }
`
