/**
 * How a turn that cannot go on ends: a JSON-RPC error whose message is for a person and whose `data` is
 * `{ error_code, retryable, reason, retry_after_s? }`, with the codes of the contract.
 */
import { RequestError } from '@agentclientprotocol/sdk'
import { APICallError, RetryError } from 'ai'
import { z } from 'zod'
import type { FaultCode } from '../contract/faults.ts'
import { whyOf } from '../contract/why.ts'
import { type Settings, withoutKeys } from './settings.ts'

export class AgentFailure extends Error {
  override readonly name = 'AgentFailure'
  readonly error_code: FaultCode
  readonly retryable: boolean
  /** A stable word for programs. */
  readonly reason: string
  /** Seconds for which the provider asked to be left alone. */
  readonly retry_after_s: number | undefined

  constructor(
    error_code: FaultCode,
    reason: string,
    message: string,
    { retryable = false, retry_after_s }: { retryable?: boolean; retry_after_s?: number | undefined } = {},
  ) {
    super(message)
    this.retry_after_s = retry_after_s
    this.error_code = error_code
    this.reason = reason
    this.retryable = retryable
  }
}

/** JSON-RPC codes of ACP 1. */
const AUTH_REQUIRED = -32000
const INVALID_PARAMS = -32602
const INTERNAL_ERROR = -32603

export function renderFailure(thrown: unknown, settings: Settings): RequestError {
  if (thrown instanceof RequestError) return thrown
  const failure = thrown instanceof AgentFailure ? thrown : modelFailure(thrown)
  const { error_code, retryable, reason, retry_after_s } = failure
  return new RequestError(rpcCode(error_code), withoutKeys(settings, failure.message), {
    error_code,
    retryable,
    reason,
    ...(retry_after_s === undefined ? {} : { retry_after_s }),
  })
}

function rpcCode(code: FaultCode): number {
  if (code === 'external_authentication_required') return AUTH_REQUIRED
  return code === 'invalid_request' || code === 'integration_not_configured' ? INVALID_PARAMS : INTERNAL_ERROR
}

const said_chars_max = 500

/** What a provider's refusal means for the run. */
export function modelFailure(thrown: unknown): AgentFailure {
  const error = RetryError.isInstance(thrown) ? thrown.lastError : thrown
  if (!APICallError.isInstance(error)) {
    const message = whyOf(error)
    return new AgentFailure('internal_error', 'model_call_failed', `The model call failed: ${message}`, {
      retryable: true,
    })
  }
  const host = hostOf(error.url)
  const said = saidBy(error)
  const status = error.statusCode
  if (status === undefined) {
    const message = `The model at ${host} cannot be reached: ${said}. Check its base URL and the network.`
    return new AgentFailure('resource_unavailable', 'model_unreachable', message, { retryable: true })
  }
  if (status === 401 || status === 403) {
    const message = `The model at ${host} refused the key (${status}): ${said}. Check the API key of this provider.`
    return new AgentFailure('external_authentication_required', 'model_key_refused', message)
  }
  if (status === 402)
    return new AgentFailure(
      'insufficient_credits',
      'model_credits',
      `The account at ${host} has no credits left: ${said}`,
    )
  if (status === 404) {
    const message = `The model at ${host} was not found: ${said}. Check the model name and the base URL.`
    return new AgentFailure('invalid_request', 'model_not_found', message)
  }
  const again = { retryable: true, retry_after_s: retryAfterOf(error) }
  if (status === 429) {
    const message = `The model at ${host} is at its rate limit: ${said}. Try again later.`
    return new AgentFailure('resource_unavailable', 'model_rate_limited', message, again)
  }
  if (status >= 500 || status === 408 || status === 409) {
    const message = `The model at ${host} is not available (${status}): ${said}. Try again later.`
    return new AgentFailure('resource_unavailable', 'model_unavailable', message, again)
  }
  return new AgentFailure(
    'invalid_request',
    'model_refused_request',
    `The model at ${host} refused the request (${status}): ${said}`,
  )
}

const RETRY_AFTER_S_MAX = 86_400

/** `retry-after-ms` of some providers, or `retry-after` in seconds or as a date. */
function retryAfterOf({ responseHeaders = {} }: APICallError): number | undefined {
  const milliseconds = Number(responseHeaders['retry-after-ms'] || Number.NaN)
  const said = responseHeaders['retry-after'] ?? ''
  const seconds = /^\s*\d+(\.\d+)?\s*$/.test(said) ? Number(said) : (Date.parse(said) - Date.now()) / 1000
  const after = Number.isFinite(milliseconds) ? milliseconds / 1000 : seconds
  return Number.isFinite(after) && after > 0 ? Math.min(after, RETRY_AFTER_S_MAX) : undefined
}

const Body = z.object({ error: z.union([z.string(), z.object({ message: z.string() })]) })

/** Proxies do not all write errors in the shape that the SDK reads; then it says only the status. */
function saidBy({ message, responseBody }: APICallError): string {
  return (bodyMessage(responseBody ?? '') ?? message).slice(0, said_chars_max)
}

function bodyMessage(text: string): string | undefined {
  try {
    const { error } = Body.parse(JSON.parse(text))
    return typeof error === 'string' ? error : error.message
  } catch {
    return undefined
  }
}

function hostOf(url: string): string {
  return URL.canParse(url) ? new URL(url).host : url
}
