/** One conversation with one client: what it needs from a prompt to the next. */
import type {
  McpServer,
  RequestPermissionRequest,
  RequestPermissionResponse,
  SessionUpdate,
} from '@agentclientprotocol/sdk'
import type { UserModelMessage } from 'ai'
import type { History } from './history.ts'
import { type Settings, toolEnvironment } from './settings.ts'
import { bash } from './tools/bash.ts'
import { edit, read, write } from './tools/files.ts'
import { openMcp } from './tools/mcp.ts'
import { list, search } from './tools/search.ts'
import { openShells, type Shells } from './tools/shell.ts'
import { todo } from './tools/todo.ts'
import type { Tool } from './tools/tool.ts'
import type { TurnEnd } from './turn.ts'

/** `default` asks before it changes things; `unattended` never asks. */
export const MODES = [
  { id: 'default', name: 'Ask', description: 'Asks before it runs commands or changes files.' },
  { id: 'unattended', name: 'Unattended', description: 'Does what it needs to, without asking.' },
] as const
export type Mode = (typeof MODES)[number]['id']

/** The client, as a turn sees it. */
export type Listener = {
  update(update: SessionUpdate): Promise<void>
  ask(question: Omit<RequestPermissionRequest, 'sessionId'>, signal: AbortSignal): Promise<RequestPermissionResponse>
}

export type ActiveTurn = {
  abort: AbortController
  /** Prompts that came while the turn ran; they join it at its next model call. */
  queue: UserModelMessage[]
  ended: Promise<TurnEnd>
}

export type Session = {
  session_id: string
  cwd: string
  mode: Mode
  /** As it was asked for: `auto`, a name, `scripted`. */
  model: string
  history: History
  tools: Tool[]
  problems: string[]
  env: Record<string, string>
  shells: Shells
  listener: Listener
  /** Tools that the client allowed for good. */
  allowed: Set<string>
  /** How many of the first messages the model sees shortened. */
  cut: number
  turn: ActiveTurn | undefined
  close(): Promise<void>
}

export type SessionStart = {
  session_id: string
  cwd: string
  history: History
  mcp_servers: McpServer[]
  settings: Settings
  env: Record<string, string | undefined>
  listener: Listener
  signal: AbortSignal
}

export async function openSession(start: SessionStart): Promise<Session> {
  const env = toolEnvironment(start.env)
  const shells = openShells()
  const mcp = await openMcp(start.mcp_servers, start.cwd, env, start.signal)
  const session: Session = {
    session_id: start.session_id,
    cwd: start.cwd,
    mode: 'default',
    model: start.settings.BATON_MODEL ?? 'auto',
    history: start.history,
    tools: [bash, read, write, edit, search, list, todo, ...mcp.tools],
    problems: mcp.problems,
    env,
    shells,
    listener: start.listener,
    allowed: new Set(),
    cut: 0,
    turn: undefined,
    async close() {
      cancelTurn(session)
      await session.turn?.ended.catch(() => undefined)
      await mcp.close()
    },
  }
  return session
}

/** Ends the model call and every process of the tools, at once. */
export function cancelTurn(session: Session): void {
  session.turn?.abort.abort()
  session.shells.killAll()
}
