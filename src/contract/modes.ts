/** Modes: whether an agent proposes a plan and waits for a person before it starts others. */
import { z } from 'zod'

/**
 * `plan`: the agent plans and proposes children where they help. `orchestrate`: it is asked to break the task down for
 * children. In both nothing starts before a person has approved.
 */
export const RUN_MODES = ['normal', 'plan', 'orchestrate'] as const
export const RunMode = z.enum(RUN_MODES)
export type RunMode = z.infer<typeof RunMode>

/** What a person typed, with `/plan …` or `/orchestrate …` at its start read as a mode. Never for prompts of the API. */
export function readTyped(text: string): { mode: RunMode; prompt: string } {
  const typed = /^\s*\/(plan|orchestrate)(?:\s+|$)/i.exec(text)
  if (typed === null) return { mode: 'normal', prompt: text }
  return { mode: RunMode.parse(typed[1]?.toLowerCase()), prompt: text.slice(typed[0].length) }
}
