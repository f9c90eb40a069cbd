/** What goes wrong with a harness, worded for the person who has to put it right. */
import { z } from 'zod'
import { type Failure, FaultCode } from '../../contract/index.ts'
import { HarnessFailure, type TurnEnd } from './harness.ts'

const MESSAGE_LENGTH_MAX = 4096

export function missingCli(title: string, looked_for: string, install: string): HarnessFailure {
  return new HarnessFailure({
    error_code: 'operation_not_supported',
    retryable: false,
    reason: 'harness_missing',
    message: `${title} is not installed where the run executes: there is no ${looked_for}. ${install}`,
  })
}

export function missingLogin(title: string, how: string): HarnessFailure {
  return new HarnessFailure(loginFailure(title, how))
}

export function unknownHarness(name: string, known: string[]): HarnessFailure {
  return new HarnessFailure({
    error_code: 'operation_not_supported',
    retryable: false,
    reason: 'harness_unknown',
    message:
      `There is no harness named "${name}" here. Known are: ${known.join(', ')}. ` +
      'An ACP agent of your own is added with BATON_HARNESSES=\'{"NAME":{"command":"…","args":[]}}\' in the environment of the worker.',
  })
}

export const notStarted = (title: string, why: string, last_lines: string): HarnessFailure =>
  new HarnessFailure(startFailure(title, why, last_lines))

export const startFailure = (title: string, why: string, last_lines: string): Failure => ({
  error_code: 'internal_error',
  retryable: true,
  reason: 'harness_start',
  message: short(`${title} could not be started: ${why}${lastLines(last_lines)}`),
})

export const loginFailure = (title: string, how: string): Failure => ({
  error_code: 'external_authentication_required',
  retryable: false,
  reason: 'harness_login',
  message: `${title} has no login where the run executes. ${how}`,
})

export const refusedLogin = (title: string, how: string, said: string): Failure => ({
  error_code: 'external_authentication_required',
  retryable: false,
  reason: 'harness_login',
  message: short(`${title} was refused by its model provider (${oneLine(said)}). ${how}`),
})

export const died = (title: string, how: string, last_lines: string): TurnEnd => ({
  end: 'failed',
  outcome: 'ERROR',
  failure: {
    error_code: 'internal_error',
    retryable: true,
    reason: 'harness_died',
    message: short(`${title} ${how} in the middle of its turn.${lastLines(last_lines)}`),
  },
})

/** A prompt that the harness answered with an error. */
export function refusedPrompt(title: string, how: string, error: unknown, last_lines: string): TurnEnd {
  const own = OwnError.safeParse(error)
  if (own.success) {
    const { error_code, retryable, reason, retry_after_s } = own.data.data
    const failure = {
      error_code,
      retryable,
      message: short(own.data.message),
      ...(reason === undefined ? {} : { reason }),
      ...(retry_after_s === undefined ? {} : { retry_after_s }),
    }
    return { end: 'failed', outcome: retryable ? 'ERROR' : 'FAILED', failure }
  }
  const text = said(error)
  if (RpcError.safeParse(error).data?.code === AUTH_REQUIRED || LOGIN_WORDS.test(text)) {
    return { end: 'failed', outcome: 'FAILED', failure: refusedLogin(title, how, text) }
  }
  const retry_after_s = retryAfterIn(text)
  const busy = /\b(429|529|503)\b|rate.?limit|overloaded|quota/i.test(text)
  return {
    end: 'failed',
    outcome: 'ERROR',
    failure: {
      error_code: busy ? 'resource_unavailable' : 'internal_error',
      retryable: true,
      reason: busy ? 'model_busy' : 'harness_error',
      ...(retry_after_s === undefined ? {} : { retry_after_s }),
      message: short(`${title} ended its turn with an error: ${oneLine(text)}${lastLines(last_lines)}`),
    },
  }
}

/** A session that could not be opened. */
export function refusedOpen(title: string, how: string, error: unknown, last_lines: string): HarnessFailure {
  const text = said(error)
  const login = RpcError.safeParse(error).data?.code === AUTH_REQUIRED || LOGIN_WORDS.test(text)
  return new HarnessFailure(login ? refusedLogin(title, how, text) : startFailure(title, text, last_lines))
}

/** What an error says, with the details that JSON-RPC puts beside it ("Internal error" alone tells nothing). */
export function said(error: unknown): string {
  const parsed = RpcError.safeParse(error)
  if (!parsed.success) return String(error)
  const details = Details.safeParse(parsed.data.data)
  return details.success ? `${parsed.data.message}: ${details.data}` : parsed.data.message
}

const RETRY_AFTER_S_MAX = 86_400
const AFTER_WORDS =
  /\b(?:retry|try again)(?:[-\s]?(?:after|in))[:\s]+(\d+(?:\.\d+)?)\s*(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hours?)?\b/i

/** When a provider's words say so: "Please try again in 20s", "retry-after: 30". */
export function retryAfterIn(text: string): number | undefined {
  const [, amount, unit = 's'] = AFTER_WORDS.exec(text) ?? []
  if (amount === undefined) return undefined
  const plain = unit.toLowerCase()
  const seconds = /^(ms|milli)/.test(plain) ? 0.001 : plain.startsWith('m') ? 60 : plain.startsWith('h') ? 3600 : 1
  return Math.min(Number(amount) * seconds, RETRY_AFTER_S_MAX)
}

/** ACP's code for "log in first". */
const AUTH_REQUIRED = -32000
const LOGIN_WORDS =
  /\b(401|403)\b|auth(entication|orization)? (is )?(required|failed)|invalid (x-)?api.?key|unauthori[sz]ed|not logged in|\/login\b/i
const RpcError = z.looseObject({
  message: z.string(),
  code: z.number().optional().catch(undefined),
  data: z.unknown().optional(),
})
/** The built-in agent says itself what its failure means. */
const OwnError = z.looseObject({
  message: z.string(),
  data: z.looseObject({
    error_code: FaultCode,
    retryable: z.boolean(),
    reason: z.string().max(64).optional(),
    retry_after_s: z.number().min(0).max(RETRY_AFTER_S_MAX).optional().catch(undefined),
  }),
})
const Details = z.union([
  z.string(),
  z.looseObject({ details: z.string() }).transform((d) => d.details),
  z.looseObject({ message: z.string() }).transform((d) => d.message),
])

/** A turn that the harness ended by itself without having finished. */
export function stopped(title: string, reason: string): TurnEnd {
  if (reason === 'refusal') {
    return failed(
      'content_policy_violation',
      'refusal',
      `The model of ${title} refused the prompt. Word it differently.`,
    )
  }
  if (reason === 'max_tokens') {
    return failed(
      'operation_not_supported',
      reason,
      `${title} reached its model's token limit. Give it less to do at once.`,
    )
  }
  if (reason === 'max_turn_requests') {
    return failed(
      'operation_not_supported',
      reason,
      `${title} reached its limit of model calls in one turn. Give it less to do at once.`,
    )
  }
  return {
    end: 'failed',
    outcome: 'ERROR',
    failure: {
      error_code: 'internal_error',
      retryable: true,
      reason: 'harness_stopped',
      message: `${title} ended its turn by itself (${reason}).`,
    },
  }
}

const failed = (error_code: Failure['error_code'], reason: string, message: string): TurnEnd => ({
  end: 'failed',
  outcome: 'FAILED',
  failure: { error_code, retryable: false, reason, message },
})

export const short = (text: string): string =>
  text.length <= MESSAGE_LENGTH_MAX ? text : `${text.slice(0, MESSAGE_LENGTH_MAX - 1)}…`
const oneLine = (text: string): string => text.replace(/\s+/g, ' ').trim().slice(0, 1000)
const lastLines = (text: string): string => (text === '' ? '' : `\nIts last lines were:\n${text}`)
