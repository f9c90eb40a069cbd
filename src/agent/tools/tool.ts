/**
 * The seam between the turn and what the model may do.
 *
 * A tool parses its own input (`prepare` throws a `ToolError` worded for the model) and then runs. `run`
 *  - must obey `signal` at once and leave no process of its own behind;
 *  - must answer with an `Outcome` or throw a `ToolError`; any other throw is a bug of ours, told to the model as such;
 *  - must bound its text, since it becomes part of every later model call.
 */
import type { PlanEntry, ToolKind } from '@agentclientprotocol/sdk'
import { z } from 'zod'
import type { Shells } from './shell.ts'

export type ToolContext = {
  /** Absolute, without symbolic links. */
  cwd: string
  env: Record<string, string>
  shells: Shells
  signal: AbortSignal
}

export type Change = { path: string; old_text: string | null; new_text: string }

export type Outcome = {
  text: string
  failed?: boolean
  exit_code?: number
  changes?: Change[]
  plan?: PlanEntry[]
}

export type PreparedCall = {
  /** One line for a person. */
  title: string
  /** As the model gave them. */
  paths: string[]
  run(context: ToolContext): Promise<Outcome>
}

export type Tool = {
  name: string
  description: string
  kind: ToolKind
  /** Whether a person is asked first, in a session that asks. */
  asks: boolean
  /** JSON Schema of the input. */
  schema: Record<string, unknown>
  prepare(input: unknown): PreparedCall
}

/** What the model did wrong, worded so that it can do better. */
export class ToolError extends Error {
  override readonly name = 'ToolError'
}

type Definition<Input extends z.ZodType> = {
  name: string
  description: string
  kind: ToolKind
  asks?: boolean
  input: Input
  title(input: z.infer<Input>): string
  paths?(input: z.infer<Input>): string[]
  run(input: z.infer<Input>, context: ToolContext): Promise<Outcome>
}

export function defineTool<Input extends z.ZodType>(definition: Definition<Input>): Tool {
  return {
    name: definition.name,
    description: definition.description,
    kind: definition.kind,
    asks: definition.asks ?? false,
    schema: { ...z.toJSONSchema(definition.input, { io: 'input' }) },
    prepare(raw) {
      const parsed = definition.input.safeParse(raw)
      if (!parsed.success) {
        throw new ToolError(`The input of ${definition.name} is not right:\n${z.prettifyError(parsed.error)}`)
      }
      return {
        title: oneLine(definition.title(parsed.data)),
        paths: definition.paths?.(parsed.data) ?? [],
        run: (context) => definition.run(parsed.data, context),
      }
    },
  }
}

const TITLE_CHARS_MAX = 200

export function oneLine(text: string): string {
  const line = text.trim().split('\n', 1)[0] ?? ''
  const whole = line.length === text.trim().length && line.length <= TITLE_CHARS_MAX
  return whole ? line : `${line.slice(0, TITLE_CHARS_MAX)} …`
}
