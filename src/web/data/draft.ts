/** The draft of a new run: what is typed, what is wrong with it, and the request it becomes. */
import { z } from 'zod'
import { type CreateRun, PROMPT_BYTES_MAX, RunMode, readTyped } from '../../contract/index.ts'

const Draft = z.object({
  prompt: z.string(),
  harness: z.string().min(1),
  model: z.string(),
  repository: z.string(),
  ref: z.string(),
  setup: z.string(),
  title: z.string(),
  timeout: z.string(),
  mode: RunMode.default('normal'),
  /** A mode at the start of the prompt is not read as one. */
  literal: z.boolean().default(false),
})
export type Draft = z.infer<typeof Draft>
export type DraftField = Exclude<keyof Draft, 'mode' | 'literal'>

export const EMPTY_DRAFT: Draft = {
  prompt: '',
  harness: 'baton',
  model: '',
  repository: '',
  ref: '',
  setup: '',
  title: '',
  timeout: '',
  mode: 'normal',
  literal: false,
}

/** What a person typed as it is understood; `typed`: its start was read as a mode. */
export function understood(draft: Pick<Draft, 'prompt' | 'mode' | 'literal' | 'harness'>) {
  if (draft.harness === 'command') return { mode: 'normal' as const, prompt: draft.prompt, typed: false }
  const read = draft.literal ? { mode: 'normal' as const, prompt: draft.prompt } : readTyped(draft.prompt)
  return read.mode === 'normal' ? { mode: draft.mode, prompt: draft.prompt, typed: false } : { ...read, typed: true }
}

const STORED_AS = 'baton.draft'
const TIMEOUT_MINUTES_MAX = 7 * 24 * 60

export function checkDraft(draft: Draft): Partial<Record<DraftField, string>> {
  const wrong: Partial<Record<DraftField, string>> = {}
  const command = draft.harness === 'command'
  if (understood(draft).prompt.trim() === '')
    wrong.prompt = command ? 'Write the command to run.' : 'Write what the agent is to do.'
  else if (new TextEncoder().encode(draft.prompt).length > PROMPT_BYTES_MAX)
    wrong.prompt = 'This is longer than 1 MiB. Put long material into the repository and name it here.'
  if (draft.repository.trim() === '' && draft.ref.trim() !== '')
    wrong.repository = 'Name the repository that has this branch, tag or commit.'
  if (/\s/.test(draft.repository.trim())) wrong.repository = 'A repository URL has no spaces.'
  if (/\s/.test(draft.ref.trim())) wrong.ref = 'A branch, tag or commit has no spaces.'
  if (linesOf(draft.setup).length > 50) wrong.setup = 'At most 50 commands. Put more into a script in the repository.'
  if (draft.title.trim().length > 512) wrong.title = 'At most 512 characters.'
  const minutes = Number(draft.timeout)
  if (draft.timeout.trim() !== '' && !(minutes > 0 && minutes <= TIMEOUT_MINUTES_MAX))
    wrong.timeout = 'A number of minutes above 0, at most 10080 (a week).'
  return wrong
}

export function requestOf(draft: Draft): CreateRun {
  const url = draft.repository.trim()
  const ref = draft.ref.trim()
  const setup_commands = linesOf(draft.setup)
  const model_id = draft.harness === 'command' ? '' : draft.model.trim()
  const environment =
    url === '' && setup_commands.length === 0
      ? {}
      : {
          environment: {
            repositories: url === '' ? [] : [{ url, ...(ref === '' ? {} : { ref }) }],
            setup_commands,
            variables: {},
          },
        }
  const { mode, prompt } = understood(draft)
  return {
    prompt,
    ...(mode === 'normal' ? {} : { mode }),
    ...(draft.title.trim() === '' ? {} : { title: draft.title.trim() }),
    config: {
      harness: { type: draft.harness },
      ...(model_id === '' ? {} : { model_id }),
      ...environment,
      ...(draft.timeout.trim() === '' ? {} : { timeout_minutes: Number(draft.timeout) }),
    },
  }
}

const linesOf = (text: string): string[] =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')

/** Storage may be forbidden or full; then the draft lives as long as the page does. */
export function readDraft(): Draft {
  try {
    return Draft.catch(EMPTY_DRAFT).parse(JSON.parse(sessionStorage.getItem(STORED_AS) ?? 'null'))
  } catch {
    return EMPTY_DRAFT
  }
}

export function writeDraft(draft: Draft): void {
  try {
    sessionStorage.setItem(STORED_AS, JSON.stringify(draft))
  } catch {}
}

export function clearDraft(): void {
  try {
    sessionStorage.removeItem(STORED_AS)
  } catch {}
}
