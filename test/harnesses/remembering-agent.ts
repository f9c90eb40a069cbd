/**
 * An ACP agent with sessions: what it is asked goes into a file of its session below SESSIONS, at once; a loaded
 * session is that file. RECALL: it says what it knew before. HOLD: the turn goes on until its process ends. FLOOD: its
 * session gets too large. It writes down what it is given in GIVEN, and does not start where a session has POISON in
 * it.
 */
import { randomUUID } from 'node:crypto'
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const folder = process.env.SESSIONS ?? ''
const send = (message: object) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)
const note = (what: object) => appendFileSync(process.env.GIVEN ?? '', `${JSON.stringify(what)}\n`)
const fileOf = (id: string) => join(folder, 'days', `${id}.txt`)

mkdirSync(join(folder, 'days'), { recursive: true })
for (const name of readdirSync(join(folder, 'days')))
  if (readFileSync(join(folder, 'days', name), 'utf8').includes('POISON')) process.exit(4)
writeFileSync(join(folder, '../settings.json'), '{"key": "a key that no session has"}')
let session_id = ''
let memory = ''

type Message = { id?: number; method?: string; params?: { sessionId?: string; prompt?: { text: string }[] } }

for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params = {} } = JSON.parse(line) as Message
  if (method === 'initialize') send({ id, result: { protocolVersion: 1, agentCapabilities: { loadSession: true } } })
  else if (method === 'session/new') {
    session_id = randomUUID()
    note({ began: session_id })
    send({ id, result: { sessionId: session_id } })
  } else if (method === 'session/load') {
    const wanted = params.sessionId ?? ''
    if (existsSync(fileOf(wanted))) {
      session_id = wanted
      memory = readFileSync(fileOf(wanted), 'utf8')
      note({ loaded: wanted })
      send({ id, result: {} })
    } else send({ id, error: { code: -32603, message: 'There is no such session.' } })
  } else if (method === 'session/prompt') {
    const text = params.prompt?.[0]?.text ?? ''
    note({ text })
    appendFileSync(fileOf(session_id), `${text}\n`)
    if (text.includes('FLOOD')) writeFileSync(join(folder, 'flood'), Buffer.alloc(33 * 1024 * 1024))
    const words = text.includes('RECALL') ? `I remember: ${memory}` : 'Done.'
    const update = { sessionUpdate: 'agent_message_chunk', content: { type: 'text', text: words } }
    send({ method: 'session/update', params: { sessionId: session_id, update } })
    if (!text.includes('HOLD')) send({ id, result: { stopReason: 'end_turn' } })
  }
}
