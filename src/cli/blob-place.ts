/**
 * Where a server keeps blobs: a folder, or a bucket that speaks S3. A flag goes before `BATON_BLOBS`, which goes before
 * the data folder. Keys and regions have the names that every tool for S3 knows.
 */
import { isAbsolute, join, resolve } from 'node:path'
import type { Logger } from 'pino'
import type { BlobStore } from '../engine/blobs.ts'
import type { S3Options } from '../engine/blobs-s3.ts'
import { CommandFailure } from './exits.ts'
import type { Environment } from './settings.ts'

type S3Place = Omit<S3Options, 'drafts_dir' | 'log'>
export type BlobPlace = { kind: 'folder'; folder: string; from: string } | { kind: 's3'; s3: S3Place; from: string }

type Asked = { env: Environment; cwd: string; data_dir: string; blob_dir?: string | undefined }

const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/
const KEYS = 'Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.'

export function findBlobs({ env, cwd, data_dir, blob_dir }: Asked): BlobPlace {
  if (blob_dir !== undefined) return { kind: 'folder', folder: resolve(cwd, blob_dir), from: '--blob-dir' }
  const asked = env.BATON_BLOBS
  const from = 'BATON_BLOBS'
  if (!asked) return { kind: 'folder', folder: join(data_dir, 'blobs'), from: 'default' }
  if (asked.startsWith('s3://')) return { kind: 's3', s3: readS3(asked, env), from }
  if (isAbsolute(asked)) return { kind: 'folder', folder: asked, from }
  throw new CommandFailure(
    'usage',
    `BATON_BLOBS is "${asked}", which is no place for blobs.`,
    'Give it as s3://bucket/prefix, or as a folder, written from the root.',
  )
}

export async function openBlobs(place: BlobPlace, data_dir: string, log: Logger): Promise<BlobStore> {
  if (place.kind === 'folder') return (await import('../engine/blobs.ts')).folderBlobs(place.folder)
  const { s3Blobs } = await import('../engine/blobs-s3.ts')
  return s3Blobs({ ...place.s3, drafts_dir: join(data_dir, 'blob-drafts'), log })
}

/** As it may be shown. */
export const nameOfBlobs = (place: BlobPlace): string =>
  place.kind === 'folder' ? place.folder : `s3://${[place.s3.bucket, place.s3.prefix].filter(Boolean).join('/')}`

function readS3(address: string, env: Environment): S3Place {
  const [bucket = '', ...rest] = address.slice('s3://'.length).split('/')
  const prefix = rest.filter((part) => part !== '').join('/')
  const is_plain = rest.every((part) => /^[\w.-]*$/.test(part) && part !== '.' && part !== '..')
  if (!BUCKET.test(bucket) || !is_plain)
    throw new CommandFailure(
      'usage',
      `BATON_BLOBS is "${address}", which names no bucket.`,
      'Write s3://bucket/prefix.',
    )
  const { AWS_ACCESS_KEY_ID: access_key_id, AWS_SECRET_ACCESS_KEY: secret_access_key } = env
  if (!access_key_id || !secret_access_key)
    throw new CommandFailure('usage', `BATON_BLOBS is "${address}", and there is no key for it.`, KEYS)
  const endpoint = env.AWS_ENDPOINT_URL_S3 || env.AWS_ENDPOINT_URL || undefined
  if (endpoint !== undefined && !/^https?:$/.test(URL.parse(endpoint)?.protocol ?? ''))
    throw new CommandFailure('usage', `AWS_ENDPOINT_URL is "${endpoint}", which is no address.`, 'Write https://host.')
  return {
    bucket,
    prefix,
    region: env.AWS_REGION || env.AWS_DEFAULT_REGION || 'us-east-1',
    endpoint,
    access_key_id,
    secret_access_key,
    session_token: env.AWS_SESSION_TOKEN || undefined,
  }
}
