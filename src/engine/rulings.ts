/** What an agent may start: in the modes that ask first, what a person approved and nothing else. */
import type { Kysely } from 'kysely'
import { Fault, type PlanChild, type PlanConfig, type SpawnChild } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import { plainName } from './births.ts'
import { proposalOf } from './plans.ts'

/** Null: nothing binds it. */
export type Ruling = { children: PlanChild[]; config: PlanConfig } | null

/** Throws while nothing is approved that would have to be. */
export async function readRuling(write: Kysely<Tables>, run_id: string): Promise<Ruling> {
  const run = await write
    .selectFrom('runs')
    .select(['mode', 'open_plan', 'approved_plan'])
    .where('run_id', '=', run_id)
    .executeTakeFirstOrThrow()
  if (run.open_plan !== null) {
    throw refused(
      `Version ${run.open_plan} of your plan waits for a person. End your turn now; the answer is your next prompt.`,
    )
  }
  if (run.approved_plan === null) {
    if (run.mode === 'normal') return null
    throw refused(
      `This run is in mode ${run.mode}: first propose a plan with propose_plan, naming the agents that you want to start, and end your turn. A person then approves it.`,
    )
  }
  const plan = await write
    .selectFrom('plans')
    .selectAll()
    .where('run_id', '=', run_id)
    .where('version', '=', run.approved_plan)
    .executeTakeFirstOrThrow()
  const { children, config } = proposalOf(plan)
  if (children.length === 0) {
    throw refused(
      'The approved plan starts no agents. Do the work yourself, or propose another version with propose_plan.',
    )
  }
  return { children, config }
}

/** The child as it was approved: the plan's words for it go first, then the plan's for all, then what was asked. */
export function asApproved(ruling: Ruling, asked: SpawnChild): SpawnChild {
  if (ruling === null) return asked
  const { children, config } = ruling
  const child = children.find((one) => plainName(one.name) === plainName(asked.name))
  if (child === undefined) {
    const names = children.map((one) => one.name).join(', ')
    throw refused(
      `Agent ${JSON.stringify(asked.name)} is not in the approved plan, which has: ${names}. Propose another version to add it.`,
    )
  }
  const harness = child.harness ?? config.harness ?? asked.harness
  const model_id = child.model_id ?? config.model_id ?? asked.model_id
  const environment_id = child.environment ?? config.environment ?? asked.environment_id
  const where = config.where ?? asked.where
  const told = child.expected_return !== undefined && harness !== 'command'
  const expected = told ? `\n\nReturn: ${child.expected_return}` : ''
  return {
    ...asked,
    name: child.name,
    prompt: child.prompt + expected,
    ...(child.title === undefined ? {} : { title: child.title }),
    ...(harness === undefined ? {} : { harness }),
    ...(model_id === undefined ? {} : { model_id }),
    ...(environment_id === undefined ? {} : { environment_id }),
    ...(where === undefined ? {} : { where }),
  }
}

const refused = (message: string) => new Fault('conflict', message, { retryable: false })
