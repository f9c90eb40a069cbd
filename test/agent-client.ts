import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, realpathSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable, Writable } from 'node:stream'
import {
  type ClientContext,
  client,
  type McpServer,
  methods,
  ndJsonStream,
  type PermissionOption,
  PROTOCOL_VERSION,
  type PromptResponse,
  type SessionUpdate,
} from '@agentclientprotocol/sdk'
import { z } from 'zod'

const MAIN = join(import.meta.dirname, '../src/agent/main.ts')

export const folder = (name: string): string => realpathSync(mkdtempSync(join(tmpdir(), `baton-${name}-`)))

/** A git repository with one commit of these files. */
export function repository(files: Record<string, string>): string {
  const cwd = folder('repo')
  for (const [name, text] of Object.entries(files)) writeFileSync(join(cwd, name), text)
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.com', ...args], { cwd })
  git('init', '-q')
  git('add', '.')
  git('commit', '-q', '-m', 'first')
  return cwd
}

export function script(turns: unknown[]): string {
  const file = join(folder('script'), 'script.json')
  writeFileSync(file, JSON.stringify(turns))
  return file
}

export type Agent = {
  child: ChildProcess
  acp: ClientContext
  updates: SessionUpdate[]
  asked: string[]
  exited: Promise<number | null>
  /** Resolves with the first update, past or to come, that fits. */
  saw(fits: (update: SessionUpdate) => boolean): Promise<SessionUpdate>
  start(cwd: string, options?: { mcp?: McpServer[]; mode?: string }): Promise<string>
  prompt(sessionId: string, text: string): Promise<PromptResponse>
  text(): string
  [Symbol.asyncDispose](): Promise<void>
}

export async function startAgent(
  env: Record<string, string>,
  choose = (options: PermissionOption[]) => options[0],
): Promise<Agent> {
  const path = process.env.PATH ?? ''
  const child = spawn(process.execPath, [MAIN], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { PATH: path, HOME: folder('home'), ...env },
  })
  const updates: SessionUpdate[] = []
  const asked: string[] = []
  const waiting = new Set<() => void>()
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve))
  const connection = client({ name: 'test' })
    .onRequest(methods.client.session.requestPermission, ({ params }) => {
      asked.push(params.toolCall.title ?? '')
      const option = choose(params.options)
      return { outcome: option ? { outcome: 'selected', optionId: option.optionId } : { outcome: 'cancelled' } }
    })
    .onNotification(methods.client.session.update, ({ params }) => {
      updates.push(params.update)
      for (const look of waiting) look()
    })
    .connect(ndJsonStream(Writable.toWeb(child.stdin), Readable.toWeb(child.stdout) as ReadableStream<Uint8Array>))
  const acp = connection.agent
  await acp.request(methods.agent.initialize, { protocolVersion: PROTOCOL_VERSION, clientCapabilities: {} })
  return {
    child,
    acp,
    updates,
    asked,
    exited,
    saw: (fits) =>
      new Promise((resolve) => {
        const look = () => {
          const found = updates.find(fits)
          if (!found) return
          waiting.delete(look)
          resolve(found)
        }
        waiting.add(look)
        look()
      }),
    async start(cwd, { mcp = [], mode = 'unattended' } = {}) {
      const { sessionId } = await acp.request(methods.agent.session.new, { cwd, mcpServers: mcp })
      await acp.request(methods.agent.session.setMode, { sessionId, modeId: mode })
      return sessionId
    },
    prompt: (sessionId, text) =>
      acp.request(methods.agent.session.prompt, { sessionId, prompt: [{ type: 'text', text }] }),
    text: () => textOf(updates),
    async [Symbol.asyncDispose]() {
      child.stdin.end()
      await exited
    },
  }
}

export const textOf = (updates: SessionUpdate[]): string =>
  updates
    .map((update) =>
      update.sessionUpdate === 'agent_message_chunk' && update.content.type === 'text' ? update.content.text : '',
    )
    .join('')

/** What each ended tool call told the client, as text. */
export const toolTexts = (updates: SessionUpdate[]): string[] =>
  updates.flatMap((update) => {
    if (update.sessionUpdate !== 'tool_call_update' || update.status === 'in_progress') return []
    return [
      (update.content ?? [])
        .map((part) => (part.type === 'content' && part.content.type === 'text' ? part.content.text : ''))
        .join(''),
    ]
  })

const Meta = z.object({ baton: z.object({ usage: z.record(z.string(), z.unknown()) }) })
export const usageOf = (answer: PromptResponse): Record<string, unknown> => Meta.parse(answer._meta).baton.usage

const Refusal = z.object({
  message: z.string(),
  data: z.object({
    error_code: z.string(),
    retryable: z.boolean(),
    reason: z.string(),
    retry_after_s: z.number().optional(),
  }),
})

export async function refusalOf(promise: Promise<unknown>): Promise<z.infer<typeof Refusal>> {
  const error = await promise.then(
    () => {
      throw new Error('it was not refused')
    },
    (thrown: unknown) => thrown,
  )
  return Refusal.parse(error)
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
