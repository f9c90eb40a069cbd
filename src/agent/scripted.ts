/**
 * The scripted model: no model at all, but words written beforehand, spoken through the SDK's own model interface. Its
 * tool calls are run by the real tools on real files. Chosen only by the name `scripted`.
 *
 * `BATON_SCRIPT` names a JSON file with a list of turns, one for each model call of the session; without it, it surveys
 * the repository it finds itself in (`survey.ts`), or has children do so where it is asked to (`orchestrate.ts`).
 */
import { readFile } from 'node:fs/promises'
import { setTimeout as wait } from 'node:timers/promises'
import {
  APICallError,
  type LanguageModelV4,
  type LanguageModelV4CallOptions,
  type LanguageModelV4Prompt,
  type LanguageModelV4StreamPart,
  type LanguageModelV4Usage,
} from '@ai-sdk/provider'
import { z } from 'zod'
import { Usage } from '../contract/usage.ts'
import { whyOf } from '../contract/why.ts'
import { AgentFailure } from './failure.ts'
import { orchestrate } from './orchestrate.ts'
import { survey } from './survey.ts'

export const ScriptTurn = z.strictObject({
  thought: z.string().optional(),
  text: z.string().optional(),
  tools: z.array(z.strictObject({ name: z.string(), input: z.unknown() })).default([]),
  /** Before the first word. */
  delay_ms: z.number().int().nonnegative().default(0),
  /** Instead of an answer: as if the provider had refused with this HTTP status. */
  error: z.strictObject({ status: z.int(), message: z.string() }).optional(),
  usage: Usage.partial().optional(),
})
export type ScriptTurn = z.infer<typeof ScriptTurn>
export type ScriptTurnInput = z.input<typeof ScriptTurn>

const Script = z.array(ScriptTurn)
const chunk_ms = 20
const chunk_words = 4

export async function scriptedModel(script_path: string | undefined): Promise<LanguageModelV4> {
  const script = script_path === undefined ? undefined : await readScript(script_path)
  return {
    specificationVersion: 'v4',
    provider: 'scripted',
    modelId: 'scripted',
    supportedUrls: {},
    doGenerate: () => Promise.reject(new Error('The scripted model only streams.')),
    async doStream({ prompt, abortSignal }: LanguageModelV4CallOptions) {
      const turn = script ? turnAt(script, prompt) : ScriptTurn.parse(orchestrate(prompt) ?? survey(prompt))
      await wait(turn.delay_ms, undefined, abortSignal ? { signal: abortSignal } : {})
      if (turn.error) throw refusal(turn.error)
      return { stream: ReadableStream.from(speak(turn, prompt.length, abortSignal)) }
    },
  }
}

async function readScript(path: string): Promise<ScriptTurn[]> {
  try {
    return Script.parse(JSON.parse(await readFile(path, 'utf8')))
  } catch (error) {
    const why = error instanceof z.ZodError ? z.prettifyError(error) : whyOf(error)
    throw new AgentFailure(
      'invalid_request',
      'script_unreadable',
      `The script ${path} (BATON_SCRIPT) cannot be used: ${why}`,
    )
  }
}

function turnAt(script: ScriptTurn[], prompt: LanguageModelV4Prompt): ScriptTurn {
  const spoken = prompt.filter(({ role }) => role === 'assistant').length
  return script[spoken] ?? ScriptTurn.parse({ text: 'The script has ended.' })
}

function refusal({ status, message }: { status: number; message: string }): APICallError {
  return new APICallError({ message, url: 'http://scripted.invalid', requestBodyValues: {}, statusCode: status })
}

async function* speak(
  turn: ScriptTurn,
  seed: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<LanguageModelV4StreamPart> {
  yield { type: 'stream-start', warnings: [] }
  if (turn.thought) yield* stream('reasoning', turn.thought, signal)
  // Without any word the call would leave no trace in the history, by which calls are counted.
  const text = turn.text ?? (turn.tools.length === 0 ? ' ' : '')
  if (text) yield* stream('text', text, signal)
  for (const [at, { name, input }] of turn.tools.entries()) {
    yield { type: 'tool-call', toolCallId: `call_${seed}_${at}`, toolName: name, input: JSON.stringify(input ?? {}) }
  }
  const unified = turn.tools.length > 0 ? 'tool-calls' : 'stop'
  yield { type: 'finish', finishReason: { unified, raw: undefined }, usage: usageOf(turn) }
}

async function* stream(
  kind: 'text' | 'reasoning',
  text: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<LanguageModelV4StreamPart> {
  yield { type: `${kind}-start`, id: kind }
  for (const delta of text.match(new RegExp(`(?:\\S*\\s*){1,${chunk_words}}`, 'g')) ?? []) {
    if (delta === '') continue
    await wait(chunk_ms, undefined, signal ? { signal } : {})
    yield { type: `${kind}-delta`, id: kind, delta }
  }
  yield { type: `${kind}-end`, id: kind }
}

/** Words written beforehand cost no tokens, unless the script says so. */
function usageOf({ usage = {} }: ScriptTurn): LanguageModelV4Usage {
  const { input_tokens = 0, output_tokens = 0, cache_read_tokens = 0, cache_write_tokens = 0 } = usage
  return {
    inputTokens: {
      total: input_tokens + cache_read_tokens + cache_write_tokens,
      noCache: input_tokens,
      cacheRead: cache_read_tokens,
      cacheWrite: cache_write_tokens,
    },
    outputTokens: { total: output_tokens, text: output_tokens, reasoning: 0 },
  }
}
