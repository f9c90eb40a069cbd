/** Files of this machine that a run is given with its prompt. */
import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { z } from 'zod'
import { ATTACHMENT_BYTES_MAX, ATTACHMENTS_MAX, type NewAttachment } from '../contract/index.ts'
import { mimeTypeOf } from '../contract/mime-types.ts'
import { findFile } from './artifacts.ts'
import type { Context } from './context.ts'
import { CommandFailure } from './exits.ts'

const Attach = z.array(z.string()).default([])

/** What a request is given of them. */
export async function attachmentsOf(
  context: Context,
  options: Record<string, unknown>,
): Promise<{ attachments?: NewAttachment[] }> {
  const paths = Attach.parse(options.attach)
  if (paths.length === 0) return {}
  if (paths.length > ATTACHMENTS_MAX)
    throw new CommandFailure(
      'usage',
      `A run is given at most ${ATTACHMENTS_MAX} files, not ${paths.length}.`,
      'Put them into an archive, or into the repository that it works on.',
    )
  const attachments: NewAttachment[] = []
  for (const path of paths) attachments.push(await attachmentAt(context, path))
  return { attachments }
}

async function attachmentAt(context: Context, given: string): Promise<NewAttachment> {
  const { path } = await findFile(context, given, ATTACHMENT_BYTES_MAX)
  const bytes = await readFile(path)
  const file_name = basename(path)
  return { file_name, mime_type: mimeTypeOf(file_name, !bytes.includes(0)), data: bytes.toString('base64') }
}
