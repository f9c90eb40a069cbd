/** The answer of a run's permission policy to an ACP `session/request_permission`. */
import { z } from 'zod'
import type { PermissionPolicy } from '../../contract/index.ts'

const Option = z.looseObject({ optionId: z.string(), kind: z.string(), name: z.string().catch('') })
export const PermissionRequest = z.looseObject({
  options: z.array(Option).catch([]),
  toolCall: z.unknown(),
})

export type PermissionAnswer =
  | { outcome: { outcome: 'cancelled' } }
  | { outcome: { outcome: 'selected'; optionId: string } }

export const CANCELLED: PermissionAnswer = { outcome: { outcome: 'cancelled' } }

/**
 * `allow` prefers the narrowest leave, since the policy is asked again anyway and an `always` may be written to the
 * harness's settings. A request without an option of the wanted kind is answered as cancelled, never the other way.
 */
export function answerPermission(
  options: z.infer<typeof PermissionRequest>['options'],
  policy: PermissionPolicy,
): PermissionAnswer {
  const kinds = policy === 'allow' ? ['allow_once', 'allow_always'] : ['reject_once', 'reject_always']
  for (const kind of kinds) {
    const option = options.find((o) => o.kind === kind)
    if (option !== undefined) return { outcome: { outcome: 'selected', optionId: option.optionId } }
  }
  return CANCELLED
}
