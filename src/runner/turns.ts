/**
 * The conversation with a harness: prompt, turn, what the inbox holds, and again, until the run has ended.
 *
 * A turn that completed with nothing in the inbox ends the run, unless its agent waits for events: then the session
 * stays open, costs nothing, and what comes begins the next turn. The server decides which came first, a message or
 * the end; a message that came first is the next prompt. During a turn what comes joins it, where the harness can; an
 * urgent message interrupts it, where it cannot; so does what comes for an agent whose call of a waiting tool has died
 * with its server. When the run's tree is stopped its turn is interrupted, and nothing is given before a person
 * releases the tree. A command has no turns, is told nothing and goes on in a stopped tree.
 */
import type { Inbox, Outcome } from '../contract/index.ts'
import { pause } from '../sdk/calls.ts'
import type { Drive } from './drive.ts'
import type { Finished } from './finish.ts'
import type { OpenHarness, TurnEnd } from './harnesses/harness.ts'
import { renderResults } from './results.ts'
import { within } from './within.ts'

/** Timers cannot be set for longer; then it is looked again. */
const WAIT_MS_MAX = 24 * 60 * 60_000
const READ_ENTRIES = 500
const READ_BYTES = 4 * 1024 * 1024
const SUMMARY_LENGTH_MAX = 16_384
/** Between two looks when the server says that something waits, but there is nothing to see, in milliseconds. */
const LOOK_AGAIN_MS = 250
/** Between two looks whether an agent waits for what has joined its turn, in milliseconds. */
const UNSEEN_MS = 500
/** After this long without a word from the tool that an agent waits with, its call is dead; in milliseconds. */
const UNTOLD_MS = 5_000
/** Between two looks whether the tree is released, which is heard of at once; in milliseconds. */
const HALTED_MS = 60_000
const FORGOTTEN = `You were asked what stands above. Then you were interrupted, and what you did meanwhile is not in \
your memory. It may have taken effect: look at what is there before you go on.`

/** `finished`: the server has taken the end. Null: it has not been told yet, because it is not a success. */
export type Driven = { outcome: Outcome | null; finished: Finished | null }

type Talk = {
  its: Drive
  open: OpenHarness
  name: string
  /** Claimed and written down, but not taken by the turn that it was for: the next prompt. */
  owed: string[]
  /** Prompts of interrupted turns that its session has lost: they go before the next. */
  forgotten: string[]
  /** The running turn was asked to stop, for an urgent message or because the tree is stopped. */
  interrupted: boolean
  /** The transcript says that it waits. */
  waiting: 'events' | 'release' | null
  /** The agent has been given its first prompt. */
  begun: boolean
}

export async function converse(its: Drive, open: OpenHarness, name: string): Promise<Driven> {
  const talk: Talk = { its, open, name, owed: [], interrupted: false, waiting: null, begun: false, forgotten: [] }
  let last: TurnEnd = { end: 'completed' }
  let text = firstPrompt(talk)
  if (its.journal.resumed) talk.owed.push(...earlierLetters(its))
  for (;;) {
    if (text !== null) {
      await released(talk)
      if (its.stop.reason === null) last = await turn(talk, text)
    }
    if (its.stop.reason !== null) return { outcome: null, finished: null }
    if (last.end === 'failed' || (last.end === 'cancelled' && !talk.interrupted))
      return { outcome: outcomeOf(last, name), finished: null }
    const [next] = await Promise.all([whatNext(talk, last), text === null ? null : its.keeping.turnEnded()])
    if (typeof next !== 'string') return next
    text = next
  }
}

/** Null: the inbox holds it. */
function firstPrompt({ its }: Talk): string | null {
  if (its.assignment.cause === 'message') return null
  const { guidance, prompt } = its.assignment
  return pieces([...before(its), guidance ?? '', prompt]) || its.progress.instructions
}

/** What an earlier runner of this execution had claimed for the agent: nobody else will give it again. */
function earlierLetters({ journal, assignment }: Drive): string[] {
  const prompts: string[] = []
  const is_asked = assignment.cause !== 'message'
  // What the server holds of them is in what the agent is told first, but for those that are all that it is asked.
  for (let at = is_asked ? assignment.entries_held : 0; at < journal.highest; ) {
    const entries = journal.read(at, READ_ENTRIES, READ_BYTES)
    const last = entries.at(-1)
    if (last === undefined) break
    at = last.number
    for (const { number, body } of entries)
      if (body.kind === 'prompt' && !(is_asked && number === 1)) prompts.push(body.text)
  }
  return prompts
}

/** What the agent must know first, and does not remember. */
function before(its: Drive): string[] {
  const { progress, journal, attachments } = its
  const { number, config, context, missed, results, memories = '' } = its.assignment
  const instructions = [config.base_prompt ?? '', memories, progress.instructions]
  // Of another run's session, with which this one goes on, it knows nothing that is this run's own.
  const own = number === 1 && !journal.resumed ? instructions : []
  const files = [progress.restored, attachments.render()]
  if (progress.remembers) return [...own, ...files, missed ?? '']
  return [...instructions, ...files, context ?? '', renderResults(results)]
}

const pieces = (texts: string[]) => texts.filter((text) => text !== '').join('\n\n')

/** Resolves at once but in a stopped tree; there when that is released, or the execution is stopped. */
async function released(talk: Talk): Promise<void> {
  const { mail, stop } = talk.its
  if (!mail.halted) return
  while (mail.halted && stop.reason === null) {
    sayWaiting(talk, 'release')
    await mail.rung(stop.signal, HALTED_MS)
    await mail.look().catch(() => null)
  }
  // What it was rung for else is still to be looked at.
  mail.ring()
}

async function turn(talk: Talk, text: string): Promise<TurnEnd> {
  const { its, open } = talk
  talk.interrupted = false
  talk.waiting = null
  talk.begun = true
  const over = new AbortController()
  its.boundary.turnBegan()
  const asked = [...talk.forgotten, text]
  const running = open.prompt(talk.forgotten.length === 0 ? text : pieces([...talk.forgotten, FORGOTTEN, text]))
  talk.forgotten = []
  const attending = attend(talk, AbortSignal.any([over.signal, its.stop.signal]))
  const stopped = aborted(its.stop.signal).then(async (): Promise<TurnEnd> => {
    await within(
      its.assignment.limits.cancel_grace_ms,
      open.cancel().then(() => running),
    )
    return { end: 'cancelled' }
  })
  try {
    const end = await Promise.race([running, stopped])
    if (end.end === 'cancelled' && end.forgotten) talk.forgotten = asked
    return end
  } finally {
    its.boundary.turnEnded()
    over.abort()
    await attending
  }
}

/** The first of what is there for an agent that waits, and since when. */
type Untold = { since: number; message_id: string | undefined; at: number }

/** Gives the running turn what comes for it. What it cannot be given stays in the inbox. */
async function attend(talk: Talk, over: AbortSignal): Promise<void> {
  const { its, open } = talk
  if (open.join === undefined && open.interrupt === undefined) return
  let joined = false
  let untold: Untold | null = null
  while (!over.aborted) {
    await its.mail.rung(over, joined ? UNSEEN_MS : untold === null ? undefined : UNTOLD_MS)
    if (over.aborted) return
    const seen = await its.mail.look().catch(() => null)
    if (seen === null || over.aborted) continue
    if (seen.halted && open.interrupt !== undefined) return halt(talk, over)
    if (joined && seen.text === null && seen.waiting_until !== null) {
      // It may have begun to wait for the very text that had joined its turn, before it saw it.
      await its.mail.claim(seen).catch(() => false)
      joined = false
    }
    // An agent that waits is told by the tool that it waits with.
    untold = seen.waiting_until === null ? null : untoldOf(seen, untold)
    if (untold !== null && performance.now() - untold.at < UNTOLD_MS) continue
    if (seen.text === null) continue
    if (untold !== null) {
      // A server that died has left the call without an answer, and many a harness waits for that without an end.
      const text = await claimed(talk, seen).catch(() => null)
      untold = null
      if (text === null) continue
      talk.owed.push(text)
      return halt(talk, over)
    }
    if (open.join !== undefined) {
      const text = await claimed(talk, seen).catch(() => null)
      if (text === null) continue
      joined = (await open.join(text)) === 'joined'
      if (!joined) talk.owed.push(text)
    } else if (seen.urgent && open.interrupt !== undefined) {
      talk.interrupted = true
      return open.interrupt()
    }
  }
}

/** What was there before, if it still is. */
function untoldOf({ text, since, message_ids: [message_id] }: Inbox, before: Untold | null): Untold | null {
  if (text === null) return null
  const same = before !== null && before.since === since && before.message_id === message_id
  return same ? before : { since, message_id, at: performance.now() }
}

/** Ends the turn: in the harness's own words, and by force where it does not obey. */
async function halt(talk: Talk, over: AbortSignal): Promise<void> {
  const { its, open } = talk
  talk.interrupted = true
  await open.interrupt?.()
  await within(its.assignment.limits.cancel_grace_ms, aborted(over))
  if (!over.aborted) await open.cancel()
}

/** The text, now ours to give and in the transcript; null when a tool gave the agent some of it: it is looked again. */
async function claimed({ its }: Talk, seen: Inbox): Promise<string | null> {
  if (seen.text === null) return null
  // What it says may be of files that are on their way.
  await its.attachments.taken()
  if (!(await its.mail.claim(seen))) {
    its.mail.ring()
    return null
  }
  its.transcript.entry({ kind: 'prompt', text: seen.text })
  return seen.text
}

async function whatNext(talk: Talk, last: TurnEnd): Promise<string | Driven> {
  const { its, open, owed } = talk
  const failed = (dead: TurnEnd): Driven => ({ outcome: outcomeOf(dead, talk.name), finished: null })
  for (let refused = false; ; ) {
    if (owed.length > 0) return pieces([...(talk.begun ? [] : before(its)), ...owed.splice(0)])
    const [seen] = await Promise.all([its.mail.look('over'), its.beside.take()])
    if (seen.text !== null) {
      // What is given to a dead harness would be lost: it stays for the next execution.
      const dead = await deathOf(open)
      if (dead !== null) return failed(dead)
      const text = await claimed(talk, seen)
      if (text !== null) return talk.begun ? text : pieces([...before(its), text])
    } else if (seen.waiting_until !== null) {
      const dead = await waitForMail(talk, seen.waiting_until, seen.halted ? 'release' : 'events')
      if (dead !== null) return failed(dead)
    } else if (talk.forgotten.length > 0) {
      return ''
    } else {
      if (refused) await pause(LOOK_AGAIN_MS, its.stop.signal)
      const outcome = succeeded(last)
      const finished = await its.tell(outcome)
      if (!finished.told || !finished.inbox) return { outcome, finished }
      its.progress.reporting = false
      refused = true
    }
  }
}

/** Until something comes or the time is up, as the inbox then says. Answers the harness's death, if that is first. */
async function waitForMail(
  talk: Talk,
  waiting_until: string,
  what: NonNullable<Talk['waiting']>,
): Promise<TurnEnd | null> {
  const { its, open } = talk
  sayWaiting(talk, what, waiting_until)
  const left_ms = Math.min(Math.max(Date.parse(waiting_until) - Date.now(), LOOK_AGAIN_MS), WAIT_MS_MAX)
  const over = new AbortController()
  try {
    const rung = its.mail.rung(AbortSignal.any([over.signal, its.stop.signal]), left_ms).then(() => null)
    const dead = await Promise.race([rung, ...(open.died === undefined ? [] : [open.died])])
    its.stop.signal.throwIfAborted()
    return dead
  } finally {
    over.abort()
  }
}

function sayWaiting(talk: Talk, what: NonNullable<Talk['waiting']>, until?: string): void {
  const { transcript } = talk.its
  if (talk.waiting === what) return
  talk.waiting = what
  if (what === 'events') return transcript.system('info', 'waiting', 'The agent waits for events.', { until })
  const stopped = 'The tree of this run was stopped. It goes on when a person releases the tree.'
  transcript.system('warning', 'tree_stopped', stopped)
}

const deathOf = (open: OpenHarness): Promise<TurnEnd | null> =>
  Promise.race([open.died ?? Promise.resolve(null), Promise.resolve(null)])

const succeeded = (last: TurnEnd): Outcome =>
  last.end === 'completed' && last.summary !== undefined
    ? { outcome: 'SUCCEEDED', summary: last.summary.slice(0, SUMMARY_LENGTH_MAX) }
    : { outcome: 'SUCCEEDED' }

function outcomeOf(turn: TurnEnd, harness: string): Outcome {
  switch (turn.end) {
    case 'completed':
      return succeeded(turn)
    case 'failed':
      return { outcome: turn.outcome, failure: turn.failure }
    case 'cancelled':
      return {
        outcome: 'FAILED',
        failure: {
          error_code: 'internal_error',
          retryable: false,
          reason: 'harness_cancelled',
          message: `${harness} ended its turn as cancelled, though nobody had asked for that.`,
        },
      }
  }
}

/** One prompt, no turns, no inbox: what a `command` is. */
export async function promptOnce(its: Drive, open: OpenHarness, name: string): Promise<Driven> {
  const { assignment, stop } = its
  if (assignment.cause === 'message') return { outcome: { outcome: 'SUCCEEDED' }, finished: null }
  const talk: Talk = { its, open, name, owed: [], interrupted: false, waiting: null, begun: true, forgotten: [] }
  const end = await turn(talk, assignment.prompt)
  return { outcome: stop.reason === null ? outcomeOf(end, name) : null, finished: null }
}

const aborted = (signal: AbortSignal): Promise<null> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve(null)
    else signal.addEventListener('abort', () => resolve(null), { once: true })
  })
