/** What is said of runs everywhere: which one, its state, and when. */
import { z } from 'zod'

/** As it is written everywhere here, however it was asked for. */
export const RunId = z.uuid().toLowerCase()

export const Timestamp = z.iso.datetime({ offset: true })

const TIME_SHAPE = 'A time as in RFC 3339, such as 2026-01-31T12:00:00Z.'
/** PostgreSQL knows no year 0, and no zone so far from UTC. */
const NO_TIME = /^0000|[+-](1[6-9]|2\d):\d\d$/

/** As it is asked for: also in lower case, and with the + that a query in which it stands plainly makes a space. */
export const AskedTime = z.preprocess(
  (text) => (typeof text === 'string' ? text.toUpperCase().replace(/ (?=\d\d:\d\d$)/, '+') : text),
  z.iso.datetime({ offset: true, error: TIME_SHAPE }).refine((time) => !NO_TIME.test(time), TIME_SHAPE),
)

export const RUN_STATES = [
  'QUEUED',
  'PENDING',
  'CLAIMED',
  'INPROGRESS',
  'SUCCEEDED',
  'FAILED',
  'ERROR',
  'BLOCKED',
  'CANCELLED',
] as const
export type RunState = (typeof RUN_STATES)[number]

/** Accepts the GraphQL spelling and lower case; emits the REST spelling. */
export const RunState = z.preprocess(
  (v) => (typeof v === 'string' ? v.toUpperCase().replace(/^IN[_-]PROGRESS$/, 'INPROGRESS') : v),
  z.enum(RUN_STATES),
)

/** States in which nothing more happens unless somebody asks for it. */
export const ENDED_STATES = ['SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED'] as const satisfies readonly RunState[]
export const isEnded = (state: RunState): boolean => (ENDED_STATES as readonly RunState[]).includes(state)
