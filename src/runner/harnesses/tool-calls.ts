/** What ACP tool calls hold, as different harnesses fill them. Pure. */
import { z } from 'zod'

const Content = z.union([
  z.looseObject({ type: z.literal('diff'), path: z.string(), oldText: z.string().nullish(), newText: z.string() }),
  z.looseObject({
    type: z.literal('content'),
    content: z.looseObject({ type: z.string(), text: z.string().optional() }),
  }),
  z.looseObject({ type: z.string() }),
])

export const ToolUpdate = z.object({
  toolCallId: z.string(),
  name: z.string().nullish(),
  title: z.string().nullish(),
  kind: z.string().nullish().catch(undefined),
  status: z.string().nullish().catch(undefined),
  content: z.array(Content).nullish().catch(undefined),
  locations: z
    .array(z.looseObject({ path: z.string() }))
    .nullish()
    .catch(undefined),
  rawInput: z.unknown().optional(),
  rawOutput: z.unknown().optional(),
  _meta: z
    .looseObject({
      toolName: z.string().optional().catch(undefined),
      claudeCode: z
        .looseObject({ toolName: z.string().optional(), parentToolUseId: z.string().nullish() })
        .optional()
        .catch(undefined),
    })
    .nullish()
    .catch(undefined),
})
export type ToolUpdate = z.infer<typeof ToolUpdate>

export function pathsOf(call: ToolUpdate): string[] {
  const paths = [...(call.locations ?? []).map((l) => l.path), ...changesOf(call).map((c) => c.path)]
  return [...new Set(paths)]
}

export type Change = { path: string; old_text: string | null; new_text: string }

export function changesOf(call: ToolUpdate): Change[] {
  const changes: Change[] = []
  for (const part of call.content ?? []) {
    if (part.type !== 'diff' || typeof part.path !== 'string' || typeof part.newText !== 'string') continue
    changes.push({
      path: part.path,
      old_text: typeof part.oldText === 'string' ? part.oldText : null,
      new_text: part.newText,
    })
  }
  return changes
}

/** Raw output where it is text or holds some, since contents are often decorated for an editor; else the contents. */
export function outputOf(call: ToolUpdate): string {
  const raw = RawOutput.safeParse(call.rawOutput)
  if (raw.success && raw.data !== '') return raw.data
  return contentText(call)
}

/** Gemini (0.61) says which tool of an MCP server it calls in the title alone, and with what in the content. */
export function mcpCallOf(call: ToolUpdate): { name: string; input: unknown } | null {
  const [, tool, server] = /^(\S+) \((.+) MCP Server\)$/.exec(call.title ?? '') ?? []
  if (tool === undefined || call.rawInput !== undefined) return null
  const input = Json.safeParse(contentText(call))
  return { name: `mcp_${server}_${tool}`, input: input.success ? input.data : undefined }
}

const Json = z.string().transform((text, ctx): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    ctx.addIssue('not JSON')
    return z.NEVER
  }
})

export function exitCodeOf(call: ToolUpdate): number | null {
  const parsed = ExitCode.safeParse(call.rawOutput)
  return parsed.success ? parsed.data : null
}

function contentText(call: ToolUpdate): string {
  const texts: string[] = []
  for (const part of call.content ?? []) {
    const block = TextBlock.safeParse(part)
    if (block.success) texts.push(block.data.content.text)
  }
  return texts.join('\n')
}

const TextBlock = z.looseObject({ type: z.literal('content'), content: z.looseObject({ text: z.string() }) })

const Texts = z
  .array(z.looseObject({ text: z.string().optional() }))
  .transform((blocks) => blocks.map((b) => b.text ?? '').join('\n'))

const RawOutput = z.union([
  z.string(),
  Texts,
  // Codex, of a tool of an MCP server.
  z.looseObject({ result: z.looseObject({ content: Texts }) }).transform((o) => o.result.content),
  z.looseObject({ formatted_output: z.string() }).transform((o) => o.formatted_output),
  z.looseObject({ aggregated_output: z.string() }).transform((o) => o.aggregated_output),
  z.looseObject({ output: z.string() }).transform((o) => o.output),
  z.looseObject({ stdout: z.string(), stderr: z.string().default('') }).transform((o) => o.stdout + o.stderr),
  z.looseObject({ error: z.string() }).transform((o) => o.error),
  z.looseObject({ message: z.string() }).transform((o) => o.message),
])

const ExitCode = z.union([
  z.looseObject({ exit_code: z.int() }).transform((o) => o.exit_code),
  z.looseObject({ exitCode: z.int() }).transform((o) => o.exitCode),
  z.looseObject({ metadata: z.looseObject({ exit: z.int() }) }).transform((o) => o.metadata.exit),
])
