/** Candidates for the word that a shell is completing, one a line, with a tab before what it means. Never fails. */
import type { Command, Option } from 'commander'
import { HARNESS_ALIASES, RUN_STATES } from '../../contract/index.ts'
import { type Context, clientOf, type Given } from '../context.ts'
import { makeProgram } from '../program.ts'
import { oneLine } from '../text.ts'

const ASK_MS = 1000
const RUNS = 30

export function declare(command: Command): void {
  command.argument('[words...]').allowUnknownOption().allowExcessArguments()
}

type Candidate = { value: string; about?: string }

export async function run(context: Context, given: Given): Promise<void> {
  const words = given.args.filter((word) => word !== '""')
  const whole = given.args.at(-1) === '""' ? [...words, ''] : words
  const last = whole.at(-1) ?? ''
  const found = (await candidates(context, whole.slice(0, -1), last)).filter((one) => one.value.startsWith(last))
  for (const { value, about } of found) context.out.line(about ? `${value}\t${oneLine(about)}` : value)
}

async function candidates(context: Context, before: string[], last: string): Promise<Candidate[]> {
  const program = makeProgram(context.version, { out: () => {}, err: () => {} })
  const { command } = await program.find(before)
  const option = command.options.find((one) => one.long === before.at(-1) || one.short === before.at(-1))
  if (option && (option.required || option.optional)) return valuesOf(option)
  if (last.startsWith('-'))
    return command.options
      .filter((one) => !one.hidden && one.long)
      .map((one) => ({ value: one.long ?? '', about: one.description }))
  const subs = command.createHelp().visibleCommands(command)
  if (subs.length > 0) return subs.map((sub) => ({ value: sub.name(), about: sub.description() }))
  const argument = command.registeredArguments[0]?.name()
  if (argument === 'run') return runIds(context)
  if (argument === 'batch') return batchIds(context)
  if (argument === 'harness') return [...new Set(Object.values(HARNESS_ALIASES))].map((value) => ({ value }))
  if (argument === 'shell') return ['bash', 'zsh', 'fish', 'powershell'].map((value) => ({ value }))
  return []
}

function valuesOf(option: Option): Candidate[] {
  if (option.argChoices) return option.argChoices.map((value) => ({ value }))
  if (option.long === '--harness') return Object.keys(HARNESS_ALIASES).map((value) => ({ value }))
  return option.long === '--state'
    ? RUN_STATES.map((state) => ({ value: state.toLowerCase().replace('inprogress', 'in-progress') }))
    : []
}

async function batchIds(context: Context): Promise<Candidate[]> {
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(ASK_MS)])
  try {
    const { batches } = await clientOf(context).batches.list({ query: { limit: RUNS }, signal })
    return batches.map((batch) => ({ value: batch.batch_id, about: `${batch.state} ${batch.title}` }))
  } catch {
    return []
  }
}

async function runIds(context: Context): Promise<Candidate[]> {
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(ASK_MS)])
  try {
    const { runs } = await clientOf(context).runs.list({ query: { limit: RUNS }, signal })
    return runs.map((run) => ({ value: run.run_id, about: `${run.state} ${run.title}` }))
  } catch {
    return []
  }
}
