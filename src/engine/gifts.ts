/**
 * Letters that are given as they are accepted: to an agent whose call waits in this process, and that has nothing else
 * to be told. It is the same giving as that of a call which looked for itself (`givings.ts`).
 */
import type { Insertable, Selectable } from 'kysely'
import type { Givings, Runs } from '../db/tables.ts'
import { joinPieces, renderLetter, type Shown } from './letters.ts'
import type { Listeners, Reserved } from './listeners.ts'
import type { Guarded } from './storms.ts'

export type Gift = { giving: Insertable<Givings>; reserved: Reserved }

/**
 * A run's row, and what its letter is given by. `up_to`: the number of the log's end in this look; `is_quiet`: until
 * there no child had news for who listens for this run.
 */
export type Reader = Guarded & Pick<Selectable<Runs>, (typeof READ)[number]> & { up_to: number; is_quiet: boolean }

export const READ = [
  'title',
  'undelivered',
  'last_event_sequence',
  'waiting_until',
  'open_plan',
  'halted',
] as const satisfies (keyof Selectable<Runs>)[]

/** The call of this process that waits for this letter; null where the row is not as it left it, or a child has news. */
export function reserve(listeners: Listeners | null, run: Reader): Reserved | null {
  const quiet = listeners?.quiet(run.run_id)
  if (!quiet || !run.is_quiet || run.halted || run.open_plan !== null || run.undelivered > 0) return null
  const is_as_left =
    run.execution_id === quiet.execution_id &&
    run.messages === quiet.messages &&
    run.last_event_sequence === quiet.last_event_sequence &&
    run.waiting_until?.getTime() === quiet.waiting_until.getTime()
  return is_as_left ? (listeners?.reserve(run.run_id) ?? null) : null
}

type Sealed = Shown & { message_id: string; sent_at: Date }

/** Throws nothing, so that what is reserved is kept with the letter, or released. */
export function giftOf(reserved: Reserved, run: Reader, letter: Sealed): Gift {
  const giving = {
    execution_id: run.execution_id ?? '',
    run_id: run.run_id,
    call_key: reserved.call_key,
    message_ids: [letter.message_id],
    sequence: run.up_to,
    text: joinPieces([renderLetter(letter)]),
    given_at: letter.sent_at,
  }
  return { giving, reserved }
}
