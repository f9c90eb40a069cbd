import { z } from 'zod'
import { NoNul } from './config.ts'

/** What a run may log in to without a kept key, by its workload identity. */
export const CloudProviders = z.object({
  gcp: z
    .object({
      project_number: NoNul.min(1).max(64),
      workload_identity_federation_pool_id: NoNul.min(1).max(256),
      workload_identity_federation_provider_id: NoNul.min(1).max(256),
      service_account_email: NoNul.max(320).optional(),
    })
    .optional(),
  aws: z.object({ role_arn: NoNul.min(1).max(2048) }).optional(),
})
