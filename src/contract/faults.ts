/**
 * What a caller did wrong, or what we cannot do for him now: a closed table of codes.
 *
 * A fault is thrown; it crosses HTTP as problem+json (RFC 9457) and becomes the same class again in the SDK.
 * The codes, statuses and `retryable` values are those of the public Oz v1 API.
 */
import { z } from 'zod'

export const FAULTS = {
  invalid_request: { status: 400, retryable: false, title: 'Invalid request' },
  integration_not_configured: { status: 400, retryable: false, title: 'Integration not configured' },
  authentication_required: { status: 401, retryable: false, title: 'Authentication required' },
  external_authentication_required: { status: 401, retryable: false, title: 'External authentication required' },
  not_authorized: { status: 403, retryable: false, title: 'Not authorized' },
  feature_not_available: { status: 403, retryable: false, title: 'Feature not available' },
  insufficient_credits: { status: 403, retryable: false, title: 'Insufficient credits' },
  budget_exceeded: { status: 403, retryable: false, title: 'Budget exceeded' },
  integration_disabled: { status: 403, retryable: false, title: 'Integration disabled' },
  content_policy_violation: { status: 403, retryable: false, title: 'Content policy violation' },
  resource_not_found: { status: 404, retryable: false, title: 'Not found' },
  conflict: { status: 409, retryable: true, title: 'Conflict' },
  operation_not_supported: { status: 422, retryable: false, title: 'Operation not supported' },
  environment_setup_failed: { status: 500, retryable: false, title: 'Environment setup failed' },
  resource_unavailable: { status: 429, retryable: true, title: 'Resource unavailable' },
  internal_error: { status: 500, retryable: true, title: 'Internal error' },
} as const

export type FaultCode = keyof typeof FAULTS
export const FaultCode = z.enum(Object.keys(FAULTS) as [FaultCode, ...FaultCode[]])

/** Where each code is explained; the code is the last path segment. */
export const FAULT_TYPE_ROOT = 'https://docs.warp.dev/reference/api-and-sdk/troubleshooting/errors/'

export const Problem = z.looseObject({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  /** The message again: the only field that older Oz clients read. */
  error: z.string(),
  detail: z.string().optional(),
  instance: z.string().optional(),
  retryable: z.boolean().optional(),
  trace_id: z.string().optional(),
  errors: z.array(z.object({ pointer: z.string(), detail: z.string() })).optional(),
})
export type Problem = z.infer<typeof Problem>

export type FaultDetails = {
  /** HTTP status where it is narrower than the code's own: 413, 415, 421, 503. */
  status?: number
  /** Which the answer must have by that status: `allow` with 405, `content-range` with 416. */
  headers?: Record<string, string>
  /** Overrides the code's own. False on a 409 stops clients that retry every 409. */
  retryable?: boolean
  /** Seconds after which trying again may help. */
  retry_after_s?: number
  errors?: { pointer: string; detail: string }[]
  trace_id?: string
}

export class Fault extends Error {
  override readonly name = 'Fault'
  readonly code: FaultCode
  readonly details: FaultDetails

  constructor(code: FaultCode, message: string, details: FaultDetails = {}) {
    super(message)
    this.code = code
    this.details = details
  }

  get status(): number {
    return this.details.status ?? FAULTS[this.code].status
  }

  get retryable(): boolean {
    return this.details.retryable ?? FAULTS[this.code].retryable
  }
}

/** RFC 6901: the way to a place in a body. */
export const pointerOf = (path: PropertyKey[]): string =>
  path.map((part) => `/${String(part).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')

export function renderProblem(fault: Fault, trace_id: string, instance?: string): Problem {
  return {
    type: FAULT_TYPE_ROOT + fault.code,
    title: FAULTS[fault.code].title,
    status: fault.status,
    error: fault.message,
    detail: fault.message,
    retryable: fault.retryable,
    trace_id: fault.details.trace_id ?? trace_id,
    ...(instance === undefined ? {} : { instance }),
    ...(fault.details.errors === undefined ? {} : { errors: fault.details.errors }),
  }
}

/** The fault that an answer of `status` with this body stands for, also when a proxy wrote the body. */
export function parseProblem(status: number, body: unknown): Fault {
  const problem = Problem.partial().safeParse(body)
  const code = FaultCode.safeParse(problem.data?.type?.split('/').at(-1))
  const message = problem.data?.error ?? problem.data?.detail ?? `The server answered ${status}.`
  return new Fault(code.success ? code.data : codeOfStatus(status), message, {
    status,
    ...(problem.data?.retryable === undefined ? {} : { retryable: problem.data.retryable }),
    ...(problem.data?.trace_id === undefined ? {} : { trace_id: problem.data.trace_id }),
    ...(problem.data?.errors === undefined ? {} : { errors: problem.data.errors }),
  })
}

function codeOfStatus(status: number): FaultCode {
  if (status === 401) return 'authentication_required'
  if (status === 403) return 'not_authorized'
  if (status === 404) return 'resource_not_found'
  if (status === 409) return 'conflict'
  if (status === 422) return 'operation_not_supported'
  if (status === 429 || status === 503) return 'resource_unavailable'
  return status < 500 ? 'invalid_request' : 'internal_error'
}
