/**
 * The messages of one session, kept as JSON lines, one file a session, appended as they come to be. The file is the
 * truth and is never rewritten; what a model sees of it is a view (`windowOf`).
 */
import { appendFile, mkdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type ModelMessage, modelMessageSchema } from 'ai'
import { z } from 'zod'

export type History = {
  messages: ModelMessage[]
  append(message: ModelMessage): Promise<void>
}

const Line = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('session'), session_id: z.string(), version: z.literal(1), cwd: z.string() }),
  z.object({ kind: z.literal('message'), message: modelMessageSchema }),
])
type Line = z.infer<typeof Line>

export const SessionId = z.uuid()

/** Without `folder` nothing is kept. */
export async function createHistory(folder: string | undefined, session_id: string, cwd: string): Promise<History> {
  const file = folder === undefined ? undefined : fileOf(folder, session_id)
  if (file !== undefined) {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 })
    await keep(file, { kind: 'session', session_id, version: 1, cwd })
  }
  return historyOf(file, [])
}

/** Undefined when there is no such session. A torn last line, left by a kill, is left out. */
export async function openHistory(folder: string, session_id: string): Promise<History | undefined> {
  if (!SessionId.safeParse(session_id).success) return undefined
  const file = fileOf(folder, session_id)
  const text = await readFile(file, 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  if (text !== '' && !text.endsWith('\n')) await appendFile(file, '\n')
  const lines = text
    .split('\n')
    .map(parseLine)
    .filter((line) => line !== undefined)
  const history = historyOf(
    file,
    lines.flatMap((line) => (line.kind === 'message' ? [line.message] : [])),
  )
  await answerOpenCalls(history, 'The harness was stopped before this tool call ended. Its effect is not known.')
  return history
}

/** Providers refuse a history in which a tool call has no result. */
export async function answerOpenCalls(history: History, why: string): Promise<void> {
  const last = history.messages.findLastIndex(({ role }) => role === 'assistant')
  const message = history.messages[last]
  if (message?.role !== 'assistant' || typeof message.content === 'string') return
  const answered = new Set(
    history.messages
      .slice(last + 1)
      .flatMap(({ role, content }) =>
        role === 'tool' ? content.flatMap((part) => (part.type === 'tool-result' ? [part.toolCallId] : [])) : [],
      ),
  )
  for (const part of message.content) {
    if (part.type !== 'tool-call' || part.providerExecuted || answered.has(part.toolCallId)) continue
    const { toolCallId, toolName } = part
    await history.append({
      role: 'tool',
      content: [{ type: 'tool-result', toolCallId, toolName, output: { type: 'error-text', value: why } }],
    })
  }
}

const fileOf = (folder: string, session_id: string): string => join(folder, `${session_id}.jsonl`)

const keep = (file: string, line: Line): Promise<void> => appendFile(file, `${JSON.stringify(line)}\n`, { mode: 0o600 })

function historyOf(file: string | undefined, messages: ModelMessage[]): History {
  return {
    messages,
    async append(message) {
      messages.push(message)
      if (file !== undefined) await keep(file, { kind: 'message', message })
    },
  }
}

function parseLine(text: string): Line | undefined {
  if (text.trim() === '') return undefined
  try {
    const parsed = Line.safeParse(JSON.parse(text))
    return parsed.success ? parsed.data : undefined
  } catch {
    return undefined
  }
}
