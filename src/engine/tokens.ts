/** Secrets that callers show: made from 256 random bits, kept only as SHA-256. */
import { createHash, randomBytes } from 'node:crypto'

export const newApiKey = (): string => `wk-1.${randomBytes(32).toString('hex')}`
export const newExecutionToken = (): string => `bx-1.${randomBytes(32).toString('hex')}`
export const newSessionSecret = (): string => randomBytes(32).toString('base64url')

export const hashOf = (secret: string): Buffer => createHash('sha256').update(secret).digest()
