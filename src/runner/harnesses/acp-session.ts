/**
 * Opening an ACP session: initialize, authenticate, resume or begin, and set the mode that the permission policy
 * wants.
 */
import type { ClientContext } from '@agentclientprotocol/sdk'
import { z } from 'zod'
import type { PermissionPolicy } from '../../contract/index.ts'
import { whyOf } from '../../contract/why.ts'
import { HarnessFailure, type HarnessStart, type McpEndpoint } from './harness.ts'
import { refusedLogin, short } from './problems.ts'

export type SessionPlan = {
  title: string
  login_how: string
  modes: Record<PermissionPolicy, string[]>
  auth_method?: string
  session_meta?: Record<string, unknown>
  session_cwd?: string
  mcp_in_meta?: boolean
}

const PROTOCOL_VERSION = 1

/**
 * Codex 2.6 and Claude's adapter 0.100 tell a failed turn from a finished one only to a client that claims this
 * extension.
 */
const FAILURES_WANTED = { jetbrains: { air: { version: 1, capabilities: ['sessionFailure'] } } }

const Initialized = z.looseObject({
  agentCapabilities: z
    .looseObject({
      loadSession: z.boolean().catch(false),
      mcpCapabilities: z.looseObject({ http: z.boolean().catch(false) }).nullish(),
      sessionCapabilities: z.looseObject({ resume: z.unknown().optional() }).nullish(),
    })
    .nullish(),
})
const Modes = z.looseObject({
  modes: z
    .looseObject({ currentModeId: z.string(), availableModes: z.array(z.looseObject({ id: z.string() })) })
    .nullish()
    .catch(null),
})
const Session = Modes.extend({ sessionId: z.string().min(1) })

type AcpMcpServer =
  | { type: 'http'; name: string; url: string; headers: { name: string; value: string }[] }
  | { name: string; command: string; args: string[]; env: { name: string; value: string }[] }

/** Answers the session's id. */
export async function openSession(
  agent: ClientContext,
  name: string,
  start: HarnessStart,
  plan: SessionPlan,
): Promise<string> {
  const initialized = Initialized.parse(
    await agent.request<unknown>('initialize', {
      protocolVersion: PROTOCOL_VERSION,
      clientInfo: { name: 'baton', version: '1' },
      clientCapabilities: {
        fs: { readTextFile: false, writeTextFile: false },
        terminal: false,
        session: { notices: {} },
        _meta: FAILURES_WANTED,
      },
    }),
  )
  if (plan.auth_method !== undefined) await authenticate(agent, plan, plan.auth_method)
  const able = initialized.agentCapabilities
  const params = {
    cwd: plan.session_cwd ?? start.workspace,
    mcpServers: mcpServers(start, plan, able?.mcpCapabilities?.http === true),
    ...(plan.session_meta === undefined ? {} : { _meta: plan.session_meta }),
  }
  const earlier = start.assignment.resume?.harness === name ? start.assignment.resume.session_id : null
  const method = able?.sessionCapabilities?.resume ? 'session/resume' : able?.loadSession ? 'session/load' : null
  if (earlier !== null) {
    const session = await resumed(agent, method, { ...params, sessionId: earlier }, start)
    if (session !== null) {
      await setMode(agent, session, plan, start)
      return earlier
    }
  }
  const session = Session.parse(await agent.request<unknown>('session/new', params))
  await setMode(agent, session, plan, start)
  return session.sessionId
}

async function authenticate(agent: ClientContext, plan: SessionPlan, methodId: string): Promise<void> {
  try {
    await agent.request<unknown>('authenticate', { methodId })
  } catch (error) {
    throw new HarnessFailure(refusedLogin(plan.title, plan.login_how, whyOf(error)))
  }
}

/** Null when there is nothing to go on with: the turn then begins a session of its own, and the transcript says so. */
async function resumed(
  agent: ClientContext,
  method: string | null,
  params: { sessionId: string },
  { sink }: HarnessStart,
): Promise<z.infer<typeof Session> | null> {
  const warn = (why: string) =>
    sink.entry({
      kind: 'system',
      level: 'warning',
      name: 'resume_failed',
      text: short(`The earlier session could not be resumed (${why}); a new one begins without its memory.`),
    })
  if (method === null) {
    warn('this harness cannot')
    return null
  }
  try {
    const { modes } = Modes.catch({ modes: null }).parse(await agent.request<unknown>(method, params))
    return { sessionId: params.sessionId, modes }
  } catch (error) {
    warn(whyOf(error))
    return null
  }
}

async function setMode(
  agent: ClientContext,
  { sessionId, modes: offered }: z.infer<typeof Session>,
  plan: SessionPlan,
  start: HarnessStart,
): Promise<void> {
  const wanted = plan.modes[start.permissions].find((id) => offered?.availableModes.some((mode) => mode.id === id))
  if (!offered || wanted === undefined || wanted === offered.currentModeId) return
  try {
    await agent.request<unknown>('session/set_mode', { sessionId, modeId: wanted })
  } catch (error) {
    // The policy still answers each question that the harness asks.
    const why = whyOf(error)
    start.sink.entry({
      kind: 'system',
      level: 'warning',
      name: 'mode_refused',
      text: short(`${plan.title} refused its mode ${wanted}: ${why}`),
    })
  }
}

function mcpServers({ config, mcp, sink }: HarnessStart, plan: SessionPlan, http_able: boolean): AcpMcpServer[] {
  const servers: AcpMcpServer[] = []
  for (const [name, server] of Object.entries(config.mcp_servers ?? {})) {
    if ('command' in server) servers.push({ name, command: server.command, args: server.args, env: pairs(server.env) })
    else if ('url' in server) addHttp({ name, url: server.url, headers: server.headers })
    else skip(name, 'it is stored at Warp (warp_id), which this server cannot read')
  }
  if (!plan.mcp_in_meta) for (const endpoint of mcp) addHttp(endpoint)
  return servers

  function addHttp({ name, url, headers }: McpEndpoint): void {
    if (http_able) servers.push({ type: 'http', name, url, headers: pairs(headers) })
    else skip(name, 'this harness does not take MCP servers over HTTP')
  }
  function skip(name: string, why: string): void {
    sink.entry({
      kind: 'system',
      level: 'warning',
      name: 'mcp_server_left_out',
      text: `MCP server ${name} is left out: ${why}.`,
    })
  }
}

const pairs = (record: Record<string, string>) => Object.entries(record).map(([name, value]) => ({ name, value }))
