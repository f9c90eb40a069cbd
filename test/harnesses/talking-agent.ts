/**
 * An ACP agent to talk with: it writes down what it is given, and does what the words say. HOLD: the turn goes on until
 * the file `go` is there. With TALK_JOINS a prompt during a turn joins it.
 */
import { appendFileSync, existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const folder = process.env.TALK ?? ''
const joins = process.env.TALK_JOINS === '1'
const send = (message: object) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)
const note = (what: object) => appendFileSync(join(folder, 'given.ndjson'), `${JSON.stringify(what)}\n`)

let running: { ids: unknown[]; timer: NodeJS.Timeout } | null = null
const end = (stopReason: string) => {
  if (running === null) return
  const { ids, timer } = running
  clearInterval(timer)
  running = null
  for (const id of ids) send({ id, result: { stopReason } })
}

for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line) as {
    id?: number
    method?: string
    params?: { prompt?: { text: string }[]; mcpServers?: object[] }
  }
  if (message.method === 'initialize')
    send({ id: message.id, result: { protocolVersion: 1, agentCapabilities: { mcpCapabilities: { http: true } } } })
  else if (message.method === 'session/new') {
    note({ mcp: message.params?.mcpServers })
    send({ id: message.id, result: { sessionId: `talk-${process.pid}` } })
  } else if (message.method === 'session/cancel') {
    note({ cancelled: true })
    end('cancelled')
  } else if (message.method === 'session/prompt') {
    const text = message.params?.prompt?.[0]?.text ?? ''
    if (running !== null && !joins) {
      send({ id: message.id, error: { code: -32600, message: 'A turn runs already.' } })
      continue
    }
    note({ text, joined: running !== null, pid: process.pid })
    const update = { sessionUpdate: 'agent_message_chunk', content: { type: 'text', text: `I heard: ${text}` } }
    send({ method: 'session/update', params: { sessionId: 's', update } })
    if (running !== null) running.ids.push(message.id)
    else {
      const go = join(folder, 'go')
      const look = () => {
        if (text.includes('HOLD') && !existsSync(go)) return
        rmSync(go, { force: true })
        end('end_turn')
      }
      running = { ids: [message.id], timer: setInterval(look, 10) }
    }
  }
}
