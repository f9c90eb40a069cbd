/**
 * An ACP agent to talk with: it writes down what it is given, and does what the words say. HOLD: the turn goes on until
 * the file `go` is there, which it takes away, or `open`, which stays. CALL tool {…}, on a line of its own: it calls
 * that tool of the platform, and writes the answer down. CRASH: it dies, once. DEAF: it obeys no cancel. LISTEN n: at
 * the end of each turn it waits for events until it knows n letters ("letter one."), by whatever way they came; then it
 * finishes its task. With TALK_JOINS a prompt during a turn joins it; with TALK_BY_RUN each run has a folder of its own
 * below TALK.
 */
import { appendFileSync, existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const folder = join(process.env.TALK ?? '', process.env.TALK_BY_RUN === '1' ? (process.env.OZ_RUN_ID ?? '') : '')
mkdirSync(folder, { recursive: true })
const joins = process.env.TALK_JOINS === '1'
const send = (message: object) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)
const note = (what: object) => appendFileSync(join(folder, 'given.ndjson'), `${JSON.stringify(what)}\n`)
const has = (name: string) => existsSync(join(folder, name))

type Mcp = { url: string; headers: { name: string; value: string }[] }
let mcp: Mcp | null = null
let calls = 0
let running: { ids: unknown[]; timer: NodeJS.Timeout; calling: number; waited: boolean; deaf: boolean } | null = null
/** How many letters it waits for, and those that it knows. */
let listens_for = 0
let finished = false
const letters = new Set<string>()
const hear = (text: string) => {
  listens_for = Number(/^LISTEN (\d+)$/m.exec(text)?.[1] ?? listens_for)
  for (const [letter] of text.matchAll(/letter \w+\./g)) letters.add(letter)
}
const end = (stopReason: string) => {
  if (running === null) return
  const { ids, timer } = running
  clearInterval(timer)
  running = null
  for (const id of ids) send({ id, result: { stopReason } })
}

/** The answer's text; it comes as JSON or as an event stream. */
async function call(name: string, input: string): Promise<string> {
  calls += 1
  const response = await fetch(mcp?.url ?? '', {
    method: 'POST',
    headers: {
      ...Object.fromEntries((mcp?.headers ?? []).map((header) => [header.name, header.value])),
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': '2025-11-25',
    },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: calls,
      method: 'tools/call',
      params: { name, arguments: JSON.parse(input) },
    }),
  })
  const body = await response.text()
  const line = body.split('\n').findLast((one) => one.includes('"result"') || one.includes('"error"')) ?? body
  const answer = JSON.parse(line.replace(/^data: /, '')) as { result?: { content: { text: string }[] } }
  return answer.result?.content[0]?.text ?? line
}

async function use(name: string, input: string): Promise<string> {
  if (running !== null) running.calling += 1
  const answer = await call(name, input).catch(String)
  hear(answer)
  note({ tool: name, answer, pid: process.pid })
  if (running !== null) running.calling -= 1
  return answer
}

async function act(text: string): Promise<void> {
  for (const [, name = '', input = ''] of text.matchAll(/^CALL (\w+) (\{.*\})$/gm)) await use(name, input)
}

/** False: its turn ends. It has finished, or was told to end its turn and is given what comes. */
function listen(): boolean {
  if (running === null || listens_for === 0 || finished) return false
  const turn = running
  if (letters.size >= listens_for) {
    finished = true
    void use('finish_task', '{"success":true,"summary":"Heard."}')
    return true
  }
  if (turn.waited) return false
  void use('wait_for_events', '{}').then((answer) => {
    turn.waited = answer.startsWith('Nothing has come yet')
  })
  return true
}

for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line) as {
    id?: number
    method?: string
    params?: { prompt?: { text: string }[]; mcpServers?: Mcp[] }
  }
  if (message.method === 'initialize')
    send({ id: message.id, result: { protocolVersion: 1, agentCapabilities: { mcpCapabilities: { http: true } } } })
  else if (message.method === 'session/new') {
    mcp = message.params?.mcpServers?.[0] ?? null
    note({ mcp: message.params?.mcpServers })
    send({ id: message.id, result: { sessionId: `talk-${process.pid}` } })
  } else if (message.method === 'session/cancel') {
    note({ cancelled: true })
    if (!running?.deaf) end('cancelled')
  } else if (message.method === 'session/prompt') {
    const text = message.params?.prompt?.[0]?.text ?? ''
    if (running !== null && !joins) {
      send({ id: message.id, error: { code: -32600, message: 'A turn runs already.' } })
      continue
    }
    note({ text, joined: running !== null, pid: process.pid })
    hear(text)
    if (text.includes('CRASH') && !has('crashed')) {
      appendFileSync(join(folder, 'crashed'), '')
      process.exit(3)
    }
    // Not all of it: its last words are told to its parent, and no letter is to be heard twice.
    const heard = `I heard: ${text.split('\n')[0]}`
    const update = { sessionUpdate: 'agent_message_chunk', content: { type: 'text', text: heard } }
    send({ method: 'session/update', params: { sessionId: 's', update } })
    if (running !== null) running.ids.push(message.id)
    else {
      const look = () => {
        if (running !== null && running.calling > 0) return
        if (text.includes('HOLD') && !has('go') && !has('open')) return
        rmSync(join(folder, 'go'), { force: true })
        if (!listen()) end('end_turn')
      }
      const deaf = text.includes('DEAF')
      running = { ids: [message.id], timer: setInterval(look, 10), calling: 0, waited: false, deaf }
    }
    void act(text)
  }
}
