/**
 * The built-in harness `baton`: an ACP 1 agent over stdio on the AI SDK.
 *
 * Sessions are kept in `BATON_AGENT_STATE_DIR`, so that another process can load them by id. Usage of a prompt is in
 * its result and in every `usage_update` as `_meta.baton.usage`: `{ input_tokens, output_tokens, cache_read_tokens,
 * cache_write_tokens, model }`, totals of that prompt so far, in buckets that do not overlap. A prompt that comes while
 * another runs joins it at its next model call; its own result then says `_meta.baton.joined` and no tokens.
 */
import { randomUUID } from 'node:crypto'
import { realpath, stat } from 'node:fs/promises'
import { Readable, Writable } from 'node:stream'
import {
  type AgentContext,
  agent,
  type ContentBlock,
  type McpServer,
  methods,
  ndJsonStream,
  PROTOCOL_VERSION,
  type PromptResponse,
  RequestError,
  type SessionConfigOption,
  type SessionModeState,
} from '@agentclientprotocol/sdk'
import type { FilePart, TextPart, UserModelMessage } from 'ai'
import { renderFailure } from './failure.ts'
import { createHistory, type History, openHistory } from './history.ts'
import { offeredModels } from './models.ts'
import { replay } from './replay.ts'
import { cancelTurn, type Listener, MODES, type Mode, openSession, type Session } from './session.ts'
import { Settings } from './settings.ts'
import { runTurn, type TurnEnd } from './turn.ts'
import { NO_TOKENS } from './usage.ts'

export type AgentStart = {
  env: Record<string, string | undefined>
  stdin: NodeJS.ReadableStream
  stdout: NodeJS.WritableStream
  signal: AbortSignal
}

type House = { settings: Settings; env: AgentStart['env']; sessions: Map<string, Session>; signal: AbortSignal }

/** Resolves when the client has gone or `signal` is aborted; nothing that it started runs on then. */
export async function serveAgent({ env, stdin, stdout, signal }: AgentStart): Promise<void> {
  // Its warnings go to the console, which is the wire.
  Reflect.set(globalThis, 'AI_SDK_LOG_WARNINGS', false)
  const house: House = { settings: Settings.parse(env), env, sessions: new Map(), signal }
  const input = Readable.toWeb(Readable.from(stdin)) as ReadableStream<Uint8Array>
  const output = Writable.toWeb(stdout as Writable) as WritableStream<Uint8Array>
  const connection = makeAgent(house).connect(ndJsonStream(output, input))
  const onAbort = () => connection.close()
  signal.addEventListener('abort', onAbort)
  if (signal.aborted) onAbort()
  try {
    await connection.closed
  } finally {
    signal.removeEventListener('abort', onAbort)
    await Promise.all([...house.sessions.values()].map((session) => session.close()))
  }
}

function makeAgent(house: House) {
  const { session } = methods.agent
  return agent({ name: 'baton' })
    .onRequest(methods.agent.initialize, () => ({
      protocolVersion: PROTOCOL_VERSION,
      agentInfo: { name: 'baton', title: 'Baton', version: '1' },
      agentCapabilities: {
        loadSession: true,
        promptCapabilities: { image: true, embeddedContext: true },
        mcpCapabilities: { http: true, sse: false },
        sessionCapabilities: { resume: {}, close: {} },
        _meta: { baton: { prompt_queueing: true } },
      },
      authMethods: [],
    }))
    .onRequest(session.new, async ({ params, client }) => {
      const session_id = randomUUID()
      const cwd = await folderOf(params.cwd)
      const history = await createHistory(house.settings.BATON_AGENT_STATE_DIR, session_id, cwd)
      const opened = await open(house, client, { session_id, cwd, history, mcp_servers: params.mcpServers })
      return { sessionId: session_id, ...describe(house, opened) }
    })
    .onRequest(session.load, async ({ params, client }) => {
      const opened = await reopen(house, client, params)
      await replay(opened)
      return describe(house, opened)
    })
    .onRequest(session.resume, async ({ params, client }) => describe(house, await reopen(house, client, params)))
    .onRequest(session.close, async ({ params }) => {
      await find(house, params.sessionId).close()
      house.sessions.delete(params.sessionId)
      return {}
    })
    .onRequest(session.setMode, ({ params }) => {
      const mode = MODES.find(({ id }) => id === params.modeId)
      if (!mode) throw invalid(`There is no mode ${params.modeId}. There are: ${MODES.map(({ id }) => id).join(', ')}.`)
      find(house, params.sessionId).mode = mode.id
      return {}
    })
    .onRequest(session.setConfigOption, ({ params }) => {
      const found = find(house, params.sessionId)
      if (params.configId !== 'model' || typeof params.value !== 'string')
        throw invalid('The only option is `model`, a text.')
      found.model = params.value
      return { configOptions: options(house, found) }
    })
    .onRequest(session.prompt, ({ params }) => prompt(house, find(house, params.sessionId), params.prompt))
    .onNotification(session.cancel, ({ params }) => {
      const found = house.sessions.get(params.sessionId)
      if (found) cancelTurn(found)
    })
}

async function prompt(house: House, session: Session, blocks: ContentBlock[]): Promise<PromptResponse> {
  const message = parsePrompt(blocks)
  try {
    for (let turn = session.turn; turn; turn = session.turn) {
      turn.queue.push(message)
      const end = await turn.ended
      if (!turn.queue.includes(message) || end.stop_reason === 'cancelled') {
        return answer({ ...end, tokens: NO_TOKENS }, { joined: true })
      }
    }
    return answer(await runTurn(session, message, house.settings), {})
  } catch (error) {
    throw renderFailure(error, house.settings)
  }
}

const answer = ({ stop_reason, tokens, model }: TurnEnd, more: { joined?: true }): PromptResponse => ({
  stopReason: stop_reason,
  _meta: { baton: { usage: { ...tokens, model }, ...more } },
})

function parsePrompt(blocks: ContentBlock[]): UserModelMessage {
  const content = blocks.map(parseBlock)
  if (content.every((part) => part.type === 'text' && part.text.trim() === '')) throw invalid('The prompt is empty.')
  return { role: 'user', content }
}

function parseBlock(block: ContentBlock): TextPart | FilePart {
  switch (block.type) {
    case 'text':
      return { type: 'text', text: block.text }
    case 'image':
      return { type: 'file', data: block.data, mediaType: block.mimeType }
    case 'resource_link':
      return { type: 'text', text: `[${block.name}](${block.uri})` }
    case 'resource': {
      const { resource } = block
      return { type: 'text', text: 'text' in resource ? `${resource.uri}:\n${resource.text}` : resource.uri }
    }
    case 'audio':
      throw invalid('Audio is not supported in a prompt. Send text or images.')
  }
}

type Opening = { session_id: string; cwd: string; history: History; mcp_servers: McpServer[] }

async function open(house: House, client: AgentContext, opening: Opening): Promise<Session> {
  const { settings, env, signal } = house
  const listener = listenerOf(client, opening.session_id)
  const session = await openSession({ ...opening, settings, env, listener, signal })
  house.sessions.set(session.session_id, session)
  for (const title of session.problems) await listener.update({ sessionUpdate: 'notice', severity: 'warning', title })
  return session
}

async function reopen(
  house: House,
  client: AgentContext,
  params: { sessionId: string; cwd: string; mcpServers?: McpServer[] },
): Promise<Session> {
  const { sessionId: session_id } = params
  const folder = house.settings.BATON_AGENT_STATE_DIR
  const history = folder === undefined ? undefined : await openHistory(folder, session_id)
  if (!history) throw RequestError.sessionNotFound(session_id)
  await house.sessions.get(session_id)?.close()
  const cwd = await folderOf(params.cwd)
  return open(house, client, { session_id, cwd, history, mcp_servers: params.mcpServers ?? [] })
}

function listenerOf(client: AgentContext, sessionId: string): Listener {
  return {
    // A client that has gone ends the turn by the connection's end, not by each unsent update.
    update: (update) => client.notify(methods.client.session.update, { sessionId, update }).catch(() => undefined),
    ask: (question, signal) =>
      new Promise((resolve, reject) => {
        const onAbort = () => resolve({ outcome: { outcome: 'cancelled' } })
        signal.addEventListener('abort', onAbort, { once: true })
        client
          .request(methods.client.session.requestPermission, { sessionId, ...question })
          .then(resolve, reject)
          .finally(() => signal.removeEventListener('abort', onAbort))
      }),
  }
}

const describe = (
  house: House,
  session: Session,
): { modes: SessionModeState; configOptions: SessionConfigOption[] } => ({
  modes: { currentModeId: session.mode satisfies Mode, availableModes: [...MODES] },
  configOptions: options(house, session),
})

function options({ settings }: House, { model }: Session): SessionConfigOption[] {
  const names = [...new Set([...offeredModels(settings), model])]
  const choices = names.map((name) => ({ value: name, name }))
  return [{ id: 'model', name: 'Model', category: 'model', type: 'select', currentValue: model, options: choices }]
}

function find(house: House, session_id: string): Session {
  const session = house.sessions.get(session_id)
  if (!session) throw RequestError.sessionNotFound(session_id)
  return session
}

async function folderOf(path: string): Promise<string> {
  const real = await realpath(path).catch(() => undefined)
  const found = real === undefined ? undefined : await stat(real)
  if (real === undefined || !found?.isDirectory())
    throw invalid(`The working folder ${path} is not there. Create it first.`)
  return real
}

function invalid(message: string): RequestError {
  return new RequestError(-32602, message, {
    error_code: 'invalid_request',
    retryable: false,
    reason: 'invalid_params',
  })
}
