/** Messages to and from a run, as the page holds them, and the draft of one to it. */
import { z } from 'zod'
import { BODY_BYTES_MAX, type Letter, SUBJECT_CHARACTERS_MAX } from '../../contract/index.ts'

export type Letters = { messages: Letter[]; has_earlier: boolean }

/** The newest page read again, with the older ones that are held where the two touch. */
export function renewLetters(held: Letters | undefined, page: Letters): Letters {
  const first = page.messages[0]
  const at = first ? (held?.messages.findIndex((letter) => letter.message_id === first.message_id) ?? -1) : -1
  if (!held || at === -1) return page
  return { messages: [...held.messages.slice(0, at), ...page.messages], has_earlier: held.has_earlier }
}

const LetterDraft = z.object({
  subject: z.string(),
  body: z.string(),
  urgent: z.boolean(),
  /** A mode at the start of the text is not read as one. */
  literal: z.boolean().default(false),
})
export type LetterDraft = z.infer<typeof LetterDraft>

export const EMPTY_LETTER: LetterDraft = { subject: '', body: '', urgent: false, literal: false }

export function checkLetter(draft: LetterDraft): { body?: string; subject?: string } {
  if (draft.body.trim() === '') return { body: 'Write the message.' }
  if (new TextEncoder().encode(draft.body).length > BODY_BYTES_MAX)
    return { body: 'This is longer than 128 KiB. Put long material where the agent can read it, and name it here.' }
  if (draft.subject.length > SUBJECT_CHARACTERS_MAX) return { subject: `At most ${SUBJECT_CHARACTERS_MAX} characters.` }
  return {}
}

/** Without a subject the first line is it. */
export function subjectOf(draft: LetterDraft): string {
  const subject = draft.subject.trim()
  return (subject === '' ? (draft.body.trim().split('\n')[0] ?? '') : subject).slice(0, SUBJECT_CHARACTERS_MAX)
}

const storedAs = (run_id: string) => `baton.letter.${run_id}`

/** Storage may be forbidden or full; then the draft lives as long as the page does. */
export function readLetter(run_id: string): LetterDraft {
  try {
    return LetterDraft.catch(EMPTY_LETTER).parse(JSON.parse(sessionStorage.getItem(storedAs(run_id)) ?? 'null'))
  } catch {
    return EMPTY_LETTER
  }
}

export function writeLetter(run_id: string, draft: LetterDraft): void {
  try {
    if (draft.body === '' && draft.subject === '') sessionStorage.removeItem(storedAs(run_id))
    else sessionStorage.setItem(storedAs(run_id), JSON.stringify(draft))
  } catch {}
}
