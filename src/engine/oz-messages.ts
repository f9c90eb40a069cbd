/**
 * What clients of Oz send beside a prompt, as messages of their own protocol in base64: skills that they have at hand,
 * and things that their person refers to. They are kept and handed back as they came; here is read of them what an
 * agent can use. Numbers are those of `warp.multi_agent.v1` (skill.proto, attachment.proto); what is not known is a
 * plain file.
 */
import type { GivenSkill, NewAttachment } from '../contract/index.ts'

/** What it does not say is empty; it always has a name. */
export function readSkill(base64: string, at: number): GivenSkill {
  const skill = fieldsOf(Buffer.from(base64, 'base64'))
  const about = inner(skill, 1)
  const path = text(about, 1)
  const folder = path
    .split('/')
    .filter((part) => part !== '' && part !== 'SKILL.md')
    .at(-1)
  return {
    name: text(about, 2) || folder || text(about, 4) || `skill-${at + 1}`,
    description: text(about, 3),
    text: text(inner(skill, 2), 2),
  }
}

/** As a file for the sandbox. */
export function readReferred(base64: string, at: number): NewAttachment {
  const bytes = Buffer.from(base64, 'base64')
  const value = fieldsOf(bytes)
  const n = at + 1
  const file = (file_name: string, mime_type: string, content: string): NewAttachment => ({
    file_name,
    mime_type,
    data: Buffer.from(content).toString('base64'),
  })
  const [kind] = value.size === 1 ? [...value.keys()] : []
  const of = inner(value, kind ?? 0)
  switch (kind) {
    case 1:
      return file(`text-${n}.txt`, 'text/plain', text(value, 1))
    case 2:
      return file(`command-${n}.txt`, 'text/plain', shell(text(of, 1), text(of, 2), `exit code ${integer(of, 3)}`))
    case 3:
      return file(`command-${n}.txt`, 'text/plain', shell(text(of, 1), text(inner(of, 2), 1), 'still running'))
    case 4:
      return driveObject(of, n, file)
    case 5:
      return file(`changes-${n}.diff`, 'text/x-patch', hunk(of))
    case 6:
      return file(`changes-${n}.diff`, 'text/x-patch', all(of, 1).map(hunk).join('\n'))
    case 7:
      return file(`document-${n}.md`, 'text/markdown', text(of, 2))
    case 8:
      return file(`path-${n}.txt`, 'text/plain', `A file where this was asked; it has not come along: ${text(of, 1)}\n`)
  }
  return { file_name: `reference-${n}.bin`, mime_type: 'application/octet-stream', data: base64 }
}

type File = (file_name: string, mime_type: string, content: string) => NewAttachment

function driveObject(object: Fields, n: number, file: File): NewAttachment {
  const workflow = inner(object, 2)
  const notebook = inner(object, 3)
  if (workflow.size > 0) {
    const said = [`# ${text(workflow, 1)}`, text(workflow, 2), `\`\`\`sh\n${text(workflow, 3)}\n\`\`\``]
    return file(`workflow-${n}.md`, 'text/markdown', `${said.filter(Boolean).join('\n\n')}\n`)
  }
  if (notebook.size > 0) {
    const said = [`# ${text(notebook, 1)}`, text(notebook, 2)]
    return file(`notebook-${n}.md`, 'text/markdown', `${said.filter(Boolean).join('\n\n')}\n`)
  }
  return file(`object-${n}.json`, 'application/json', text(inner(object, 4), 1))
}

const shell = (command: string, output: string, end: string): string => `$ ${command}\n${output}\n[${end}]\n`

const hunk = (of: Fields): string => {
  const path = text(of, 1)
  return `--- a/${path}\n+++ b/${path}\n${text(of, 3)}`
}

type Fields = Map<number, (Buffer | bigint)[]>
const NONE: Fields = new Map()

/** By number, in the wire format of Protocol Buffers: groups are not of it any more. Empty: it is none. */
function fieldsOf(bytes: Buffer): Fields {
  const fields: Fields = new Map()
  let at = 0

  function varint(): bigint | null {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++]
      if (byte === undefined) return null
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
    return null
  }

  function take(length: number): Buffer | null {
    if (at + length > bytes.length) return null
    at += length
    return bytes.subarray(at - length, at)
  }

  while (at < bytes.length) {
    const tag = varint()
    if (tag === null || tag >> 3n === 0n) return NONE
    const value = readValue(Number(tag & 7n))
    if (value === null) return NONE
    const number = Number(tag >> 3n)
    fields.set(number, [...(fields.get(number) ?? []), value])
  }
  return fields

  function readValue(type: number): Buffer | bigint | null {
    if (type === 0) return varint()
    if (type === 1) return take(8)
    if (type === 5) return take(4)
    const length = type === 2 ? varint() : null
    return length === null || length > BigInt(bytes.length) ? null : take(Number(length))
  }
}

const all = (fields: Fields, number: number): Fields[] =>
  (fields.get(number) ?? []).map((value) => (typeof value === 'bigint' ? NONE : fieldsOf(value)))

/** The last counts, as everywhere in that format. */
const inner = (fields: Fields, number: number): Fields => all(fields, number).at(-1) ?? NONE

function text(fields: Fields, number: number): string {
  const value = fields.get(number)?.at(-1)
  return value === undefined || typeof value === 'bigint' ? '' : value.toString('utf8')
}

function integer(fields: Fields, number: number): number {
  const value = fields.get(number)?.at(-1)
  return typeof value === 'bigint' ? Number(BigInt.asIntN(32, value)) : 0
}
