/** What an agent is told of modes and of answers to its plans. */
import type { Selectable } from 'kysely'
import { z } from 'zod'
import { PlanChild, PlanConfig, type RunMode } from '../contract/index.ts'
import type { Plans } from '../db/tables.ts'

const PROPOSE = `Before you change anything or start any agent, propose a plan with the tool propose_plan of the \
"baton" MCP server: a Markdown text that says what you will do and how you will know that it is done, and, where \
agents help, one entry for each with its name, its whole prompt, its environment and what it is to return. Read what \
you need to read first. After the call END YOUR TURN: a person approves the plan, asks for changes or rejects it, and \
the answer is your next prompt. run_agents is refused until then.`

/** Null: nothing is asked beside the prompt. */
export function modeWords(mode: RunMode): string | null {
  switch (mode) {
    case 'normal':
      return null
    case 'plan':
      return `You are asked to PLAN. ${PROPOSE} Consider whether agents that work at the same time would help; \
propose them only if they do, and none otherwise.`
    case 'orchestrate':
      return `You are asked to ORCHESTRATE: break the task down into parts for agents that work at the same time, \
and lead them. ${PROPOSE} Say how many agents there are and how many work at a time.`
  }
}

export const APPROVED = 'Your plan is approved'

/** `edited`: a person changed it first. */
export function approvedWords(plan: Selectable<Plans>, edited: boolean): string {
  const children = z.array(PlanChild).parse(plan.children)
  const lines = [`Version ${plan.version} of your plan is approved${edited ? ', with changes' : ''}. Carry it out now.`]
  if (plan.words) lines.push(`The person who approved it says:\n${plan.words}`)
  if (edited) lines.push(`The plan as it now stands:\n\n${plan.document}`)
  if (children.length === 0) lines.push('It starts no agents: do the work yourself.')
  else {
    const names = children.map(
      (child) => `- ${child.name}${child.expected_return ? `: returns ${child.expected_return}` : ''}`,
    )
    lines.push(
      `Start its agents with ONE call of run_agents, by these names; each gets the prompt and the settings that were \
approved, whatever you pass:\n${names.join('\n')}`,
    )
    const { parallelism } = PlanConfig.parse(plan.config)
    if (parallelism !== undefined) lines.push(`${parallelism} of them work at a time; the others wait by themselves.`)
  }
  return lines.join('\n\n')
}

export const revisionWords = (message: string): string =>
  `A person asks for changes before the plan can be approved:\n\n${message}\n\n\
Change the plan accordingly, propose it again with propose_plan, and end your turn.`
