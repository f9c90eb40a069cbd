/** Names and kinds of files that cross a boundary, wherever somebody may save them, and addresses. */
import { z } from 'zod'

export const WEB_ADDRESS_LENGTH_MAX = 4096

/** Of a page, a pull request, a ticket: whatever a person can open. */
export const WebAddress = z
  .url({ protocol: /^https?$/, error: 'an address that begins with http:// or https://' })
  .max(WEB_ADDRESS_LENGTH_MAX)

/** Leads nowhere else. */
export const isPlainName = (name: string): boolean => !/[\\\p{Cc}]/u.test(name) && !['', '.', '..'].includes(name)

export const FileName = z
  .string()
  .max(255)
  .refine((name) => isPlainName(name) && !name.includes('/'), 'A file name has no folder and no control characters.')

export const MimeType = z
  .string()
  .max(255)
  .regex(/^[\w.+-]+\/[\w.+-]+(; ?charset=[\w-]+)?$/, 'A MIME type is written like text/markdown.')
