/**
 * What a run logs in to clouds with, where its environment or its maker names a role: an identity token of this server
 * in a private file, written anew long before it ends, and the variables by which every SDK of that cloud finds it. No
 * key lies anywhere.
 *
 * AWS: https://docs.aws.amazon.com/sdkref/latest/guide/feature-assume-role-credentials.html.
 * Google Cloud: credentials of type `external_account`, https://google.aip.dev/auth/4117.
 */
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Assignment, IssueToken } from '../contract/index.ts'
import { whyOf } from '../contract/why.ts'
import type { Client } from './client.ts'
import { SetupFailure } from './failures.ts'

/** A token stands for three times as long as it takes until the next is written, in milliseconds. */
const REFRESH_MS = 5 * 60_000
const AWS_AUDIENCE = 'sts.amazonaws.com'
const GOOGLE_STS = 'https://sts.googleapis.com/v1/token'
const GOOGLE_IMPERSONATES = 'https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts'

type Place = {
  cloud: NonNullable<Assignment['cloud']>
  run_id: string
  client: Client
  /** Private to the execution. */
  folder: string
  /** Aborted when it has ended. */
  signal: AbortSignal
  refresh_ms?: number
}

/** The variables. Throws where there is no token at the beginning; later it tries on, for the last one still stands. */
export async function logIn(place: Place): Promise<Record<string, string>> {
  const { cloud, run_id, folder } = place
  const env: Record<string, string> = {}
  if (cloud.aws !== undefined) {
    const { role_arn, region, for_models } = cloud.aws
    const file = await keepToken(place, 'aws-token', AWS_AUDIENCE, `the role ${role_arn} of AWS`)
    Object.assign(env, {
      AWS_ROLE_ARN: role_arn,
      AWS_WEB_IDENTITY_TOKEN_FILE: file,
      AWS_ROLE_SESSION_NAME: `Oz_Run_${run_id}`,
      ...(region === null ? {} : { AWS_REGION: region }),
      ...(for_models ? { CLAUDE_CODE_USE_BEDROCK: '1' } : {}),
    })
  }
  if (cloud.gcp !== undefined) {
    const { project_number, service_account_email: email, ...pool } = cloud.gcp
    const { workload_identity_federation_pool_id: pool_id, workload_identity_federation_provider_id: provider } = pool
    const where = `projects/${project_number}/locations/global/workloadIdentityPools/${pool_id}/providers/${provider}`
    const audience = `//iam.googleapis.com/${where}`
    const file = await keepToken(place, 'google-token', audience, `the project ${project_number} of Google Cloud`)
    const path = join(folder, 'google-credentials.json')
    const impersonation = email && {
      service_account_impersonation_url: `${GOOGLE_IMPERSONATES}/${email}:generateAccessToken`,
    }
    const credentials = {
      type: 'external_account',
      audience,
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      token_url: GOOGLE_STS,
      credential_source: { file },
      ...impersonation,
    }
    await writeFile(path, JSON.stringify(credentials), { mode: 0o600 })
    Object.assign(env, { GOOGLE_APPLICATION_CREDENTIALS: path, GOOGLE_CLOUD_PROJECT: project_number })
  }
  return env
}

/** Whole or not at all, for others read it while it is written. */
async function keepToken(place: Place, name: string, audience: string, what: string): Promise<string> {
  const { client, folder, signal, refresh_ms = REFRESH_MS } = place
  const path = join(folder, name)
  const body: IssueToken = {
    audience,
    requested_duration_seconds: Math.max(60, Math.ceil((3 * refresh_ms) / 1000)),
    subject_template: ['scoped_principal'],
  }
  const write = async () => {
    const { token } = await client.federation.issue({ body, signal })
    await writeFile(`${path}.next`, token, { mode: 0o600 })
    await rename(`${path}.next`, path)
  }
  await write().catch((error: unknown) => {
    const why = whyOf(error)
    throw new SetupFailure(`This run is to use ${what}, and has no token for it: ${why}`, 'identity_token', true)
  })
  void (async () => {
    while (await delay(refresh_ms, true, { signal, ref: false }).catch(() => false)) await write().catch(() => {})
  })()
  return path
}
