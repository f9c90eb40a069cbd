/**
 * The driver of every harness that speaks the Agent Client Protocol (wire v1) on stdin and stdout.
 *
 * A turn ends by the prompt's answer (when others joined it: by the last of their answers), by the death of the
 * process, or by force after a cancel that was not obeyed; after the last two the session is over. Replayed updates of
 * a resumed session are not entries: they were, earlier.
 */

import { z } from 'zod'
import { NO_USAGE, type Usage } from '../../contract/index.ts'
import { type AcpProcess, startProcess } from './acp-process.ts'
import { openSession, type SessionPlan } from './acp-session.ts'
import { acpStream } from './acp-stream.ts'
import type { Harness, HarnessStart, OpenHarness, TurnEnd } from './harness.ts'
import { HarnessFailure } from './harness.ts'
import { answerPermission, CANCELLED, type PermissionAnswer, PermissionRequest } from './permissions.ts'
import { died, notStarted, refusedOpen, refusedPrompt, short, stopped } from './problems.ts'
import { openSessionUsage, type ReadSessionUsage, type SessionUsage } from './session-usage.ts'
import { addUsage, statedCost, turnUsage, usageSoFar } from './tokens.ts'
import { type Translator, translator } from './translate.ts'

/**
 * The longest wait for a harness to answer `initialize` and open its session; cold starts from a slow disk take
 * long.
 */
const OPEN_MS = 120_000
/** Of the grace after a cancel: the part in which the harness may obey by itself, and that until SIGKILL. */
const OBEY_SHARE = 0.5
const TERM_SHARE = 0.3
/** Between SIGTERM and SIGKILL when nothing is running any more, in milliseconds. */
const CLOSE_GRACE_MS = 1000
/** A prompt for the running turn that is not refused for this long has been taken, in milliseconds. */
const JOIN_MS = 300
/** How long a process may live on after it has closed its output, in milliseconds. */
const MUTE_MS = 1000

export type Launch = SessionPlan & {
  title: string
  /** What to do about a missing or refused login. */
  login_how: string
  /** A prompt sent during a turn is joined to that turn. */
  joins: boolean
  forgets_interrupted_turn?: boolean
  session_usage?: ReadSessionUsage
  file: string
  args: string[]
  env: Record<string, string>
}

export function acpHarness(name: string, launch: (start: HarnessStart) => Promise<Launch>): Harness {
  return { name, open: async (start) => open(name, start, await launch(start)) }
}

async function open(name: string, start: HarnessStart, launch: Launch): Promise<OpenHarness> {
  const process = await startProcess({
    file: launch.file,
    args: launch.args,
    cwd: start.workspace,
    env: launch.env,
  }).catch((error: Error) => {
    throw notStarted(launch.title, error.message, '')
  })
  try {
    return await openOn(process, name, start, launch)
  } catch (error) {
    await process.end(0)
    if (error instanceof HarnessFailure) throw error
    throw refusedOpen(launch.title, launch.login_how, error, process.lastLines())
  }
}

type Live = {
  replaying: boolean
  cancelled: boolean
  /** The turn was asked to stop; the session goes on. */
  interrupted: boolean
  /** That turn is gone from the session. */
  forgotten: boolean
  /** Prompts of the turn that are not answered yet. */
  unanswered: number
  usage: Usage
  /** Where present, it alone counts. */
  counted: SessionUsage | null
  /** A failure of the turn that was told as an update. */
  failure: string | null
  entries: Translator
}

async function openOn(process: AcpProcess, name: string, start: HarnessStart, launch: Launch): Promise<OpenHarness> {
  const live: Live = {
    replaying: true,
    cancelled: false,
    interrupted: false,
    forgotten: false,
    unanswered: 0,
    usage: NO_USAGE,
    counted: null,
    failure: null,
    entries: translator(start.sink),
  }
  const sdk = await import('@agentclientprotocol/sdk')
  const raw = { parse: (params: unknown) => params }
  const connection = sdk
    .client({ name: 'baton' })
    .onRequest('session/request_permission', raw, ({ params }) => onPermission(params, start, live))
    .connect(
      acpStream(process.child.stdout, process.child.stdin, {
        onNoise: process.noise,
        onUpdate: (params) => onUpdate(params, start, live),
      }),
    )
  let gone: string | null = null
  void process.ended.then((how) => {
    gone = how
  })
  const limit = AbortSignal.any([start.signal, AbortSignal.timeout(OPEN_MS)])
  const opening = openSession(connection.agent, name, start, launch).catch(async (error: unknown) => {
    // A connection that closed says less than how the process died, which follows.
    if (connection.signal.aborted) await new Promise((resolve) => setTimeout(resolve, MUTE_MS))
    throw error
  })
  const session_id = await Promise.race([
    opening,
    process.ended.then((how) => Promise.reject(new Error(`it ${how}.`))),
    new Promise<never>((_, reject) =>
      limit.addEventListener(
        'abort',
        () =>
          reject(
            new Error(start.signal.aborted ? 'the run was stopped.' : `it did not answer for ${OPEN_MS / 1000} s.`),
          ),
        { once: true },
      ),
    ),
  ])
  if (launch.session_usage !== undefined)
    live.counted = await openSessionUsage(launch.session_usage, session_id, start.sink.usage)
  live.replaying = false
  const forced = Promise.withResolvers<TurnEnd>()

  let turn = Promise.withResolvers<TurnEnd>()
  let last: TurnEnd = { end: 'completed' }

  async function prompt(text: string): Promise<TurnEnd> {
    if (gone !== null) return died(launch.title, gone, process.lastLines())
    live.entries.begin()
    live.failure = null
    live.interrupted = false
    live.forgotten = false
    turn = Promise.withResolvers<TurnEnd>()
    void ask(text).then(answered)
    const end = await Promise.race([turn.promise, process.ended.then(lost), forced.promise])
    live.unanswered = 0
    live.entries.flush()
    if (live.cancelled) return { end: 'cancelled' }
    return end.end === 'cancelled' && live.forgotten ? { ...end, forgotten: true } : end
  }

  async function ask(text: string): Promise<TurnEnd> {
    live.unanswered += 1
    return connection.agent
      .request<unknown>('session/prompt', { sessionId: session_id, prompt: [{ type: 'text', text }] })
      .then(
        (result) => endOf(result, launch, start, live, process.lastLines()),
        // A closed connection is told by how the process died, which follows.
        async (error: unknown): Promise<TurnEnd> => {
          if (connection.signal.aborted) return lost()
          if (live.interrupted) return { end: 'cancelled' }
          return refusedPrompt(launch.title, launch.login_how, error, process.lastLines())
        },
      )
  }

  function answered(end: TurnEnd): void {
    last = end
    live.unanswered -= 1
    if (live.unanswered <= 0 || end.end === 'failed') turn.resolve(end)
  }

  /** The answer comes at the turn's end, a refusal at once. */
  async function join(text: string): Promise<'joined' | 'refused'> {
    if (live.unanswered === 0 || live.cancelled || live.interrupted || gone !== null) return 'refused'
    const asked = ask(text)
    const taken = new Promise<null>((resolve) => setTimeout(resolve, JOIN_MS, null))
    const first = await Promise.race([asked, taken])
    if (first?.end === 'failed') {
      answered(last)
      return 'refused'
    }
    void asked.then(answered)
    return 'joined'
  }

  async function interrupt(): Promise<void> {
    if (live.unanswered === 0 || live.interrupted) return
    live.interrupted = true
    // While a tool is called, no answer of its model is awaited.
    live.forgotten = launch.forgets_interrupted_turn === true && !live.entries.calling()
    await connection.agent.notify('session/cancel', { sessionId: session_id }).catch(() => {})
  }

  /** A process that has closed its output but lives on cannot be talked to any more. */
  let muted = false
  const lost = async (): Promise<TurnEnd> => {
    const mute = new Promise<null>((resolve) => setTimeout(resolve, MUTE_MS, null).unref())
    const how = await Promise.race([process.ended, mute])
    // What ends it now is ours; that it had closed its output is what there is to tell.
    if (how === null) muted = true
    if (how === null) await process.end(0)
    return died(launch.title, muted ? 'closed its output' : (how ?? 'ended'), process.lastLines())
  }

  async function cancel(): Promise<void> {
    if (live.cancelled) return
    live.cancelled = true
    const grace_ms = start.assignment.limits.cancel_grace_ms
    void connection.agent.notify('session/cancel', { sessionId: session_id }).catch(() => {})
    setTimeout(() => {
      void process.end(grace_ms * TERM_SHARE).then(() => forced.resolve({ end: 'cancelled' }))
    }, grace_ms * OBEY_SHARE).unref()
  }

  return {
    session_id,
    prompt,
    ...(launch.joins ? { join } : {}),
    interrupt,
    died: process.ended.then(lost),
    cancel,
    async close() {
      await process.end(live.cancelled ? 0 : CLOSE_GRACE_MS)
      forced.resolve({ end: 'cancelled' })
      connection.close()
    },
  }
}

const UpdateParams = z.looseObject({ update: z.unknown() })
const Kind = z.looseObject({ sessionUpdate: z.string() })

function onUpdate(params: unknown, start: HarnessStart, live: Live): void {
  if (live.replaying) return
  const parsed = UpdateParams.safeParse(params)
  const update = parsed.success && parsed.data.update !== undefined ? parsed.data.update : params
  if (live.counted !== null) live.counted.soon()
  else if (Kind.safeParse(update).data?.sessionUpdate === 'usage_update') {
    const cost_usd = statedCost(update)
    if (cost_usd !== null) live.usage = { ...live.usage, cost_usd }
    const so_far = usageSoFar(update)
    if (so_far !== null || cost_usd !== null) start.sink.usage(addUsage(live.usage, so_far ?? NO_USAGE))
  }
  live.failure = failureIn(update) ?? live.failure
  live.entries.update(update)
}

const Failed = z.looseObject({
  _meta: z.looseObject({
    jetbrains: z.looseObject({
      air: z.looseObject({
        sessionFailure: z.looseObject({ severity: z.string(), title: z.string(), category: z.string().catch('') }),
      }),
    }),
  }),
})

function failureIn(update: unknown): string | null {
  const parsed = Failed.safeParse(update)
  if (!parsed.success) return null
  const { severity, title, category } = parsed.data._meta.jetbrains.air.sessionFailure
  if (severity !== 'error') return null
  return category === 'auth_required' ? `Authentication required: ${title}` : title
}

function onPermission(params: unknown, start: HarnessStart, live: Live): PermissionAnswer {
  const parsed = PermissionRequest.safeParse(params)
  if (!parsed.success || live.cancelled || live.interrupted) return CANCELLED
  const { options, toolCall } = parsed.data
  const answer = answerPermission(options, start.permissions)
  const denied = start.permissions === 'deny' || answer === CANCELLED
  live.entries.permission(toolCall, denied)
  if (denied) {
    const title = z.looseObject({ title: z.string() }).safeParse(toolCall).data?.title ?? 'a tool call'
    const why = start.permissions === 'deny' ? "the run's permission policy is deny" : 'it offered no way to allow it'
    start.sink.entry({
      kind: 'system',
      level: 'warning',
      name: 'permission_denied',
      text: `Denied: ${title} (${why}).`,
    })
  }
  return answer
}

const PromptResult = z.looseObject({ stopReason: z.string() })

async function endOf(
  result: unknown,
  launch: Launch,
  start: HarnessStart,
  live: Live,
  last_lines: string,
): Promise<TurnEnd> {
  const counted = (await live.counted?.now()) ?? null
  const used = turnUsage(result)
  if (counted !== null || used !== null) {
    live.usage = counted ?? addUsage(live.usage, used ?? NO_USAGE)
    start.sink.usage(live.usage)
  }
  live.entries.flush()
  const failure = failureIn(result) ?? live.failure
  if (failure !== null) return refusedPrompt(launch.title, launch.login_how, { message: failure }, last_lines)
  const parsed = PromptResult.safeParse(result)
  const reason = parsed.success ? parsed.data.stopReason : 'no stop reason'
  if (reason === 'cancelled' && live.interrupted) return { end: 'cancelled' }
  if (reason !== 'end_turn') return stopped(launch.title, reason)
  const summary = live.entries.lastText()
  return summary === '' ? { end: 'completed' } : { end: 'completed', summary: short(summary) }
}
