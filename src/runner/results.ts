/** Results of the tasks that this one depends on, as text for an agent and as a file for commands. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TaskResult } from '../contract/index.ts'

/** Names the file; unset where there are no results. */
export const RESULTS_VARIABLE = 'BATON_RESULTS'

/** The variables to add; the file lies in `folder`. */
export async function writeResults(folder: string, results: TaskResult[] = []): Promise<Record<string, string>> {
  if (results.length === 0) return {}
  const path = join(folder, 'results.json')
  await writeFile(path, `${JSON.stringify(results, null, 2)}\n`)
  return { [RESULTS_VARIABLE]: path }
}

/** Empty where there are none. */
export function renderResults(results: TaskResult[] = []): string {
  if (results.length === 0) return ''
  const head = `Results of the tasks that yours builds on (the file named by $${RESULTS_VARIABLE} has them as JSON):`
  return [head, ...results.map(renderResult)].join('\n\n')
}

function renderResult({ name, harness, run_id, text, artifacts }: TaskResult): string {
  const kept = artifacts.map((one) => `- ${one.artifact_type} ${one.artifact_uid}: ${JSON.stringify(one.data)}`)
  const lines = [`## ${name} (${harness}, run ${run_id})`, text || '(It said nothing.)']
  return [...lines, ...(kept.length === 0 ? [] : ['Artifacts:', ...kept])].join('\n')
}
