/**
 * The files that the run was given, in a folder of its sandbox that no repository knows: all that there are when its
 * agent begins, and what comes while it is at work.
 */
import { join } from 'node:path'
import { type AttachedFile, isPlainName, LATER_ATTACHMENT_BYTES_MAX } from '../contract/index.ts'
import { whyOf } from '../contract/why.ts'
import type { Client } from './client.ts'
import { megabytes } from './failures.ts'
import type { Transcript } from './transcript.ts'

/** Names the folder. */
export const ATTACHMENTS_VARIABLE = 'BATON_ATTACHMENTS_DIR'
/** All files of one look, in milliseconds. */
const TAKE_MS = 120_000

export type Attachments = {
  /** Absolute. Made when the first file comes. */
  folder: string
  /** Fetches what is not there yet. Never rejects: what cannot be had is said in the transcript. */
  take(): Promise<void>
  /** Resolves when nothing is on its way. */
  taken(): Promise<void>
  /** What an agent is told first of those that are there; empty where there are none. */
  render(): string
}

export type AttachmentsOptions = {
  client: Client
  execution_id: string
  folder: string
  transcript: Transcript
  signal: AbortSignal
}

export function makeAttachments({ client, execution_id, folder, transcript, signal }: AttachmentsOptions): Attachments {
  const here = new Map<string, AttachedFile>()
  let taking: Promise<void> = Promise.resolve()

  const pathOf = ({ attachment_id, filename }: AttachedFile) => join(folder, attachment_id, filename)

  async function takeNow(): Promise<void> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(TAKE_MS)])
    const { attachments } = await client.attachments.take({ params: { execution_id }, signal: limit })
    const { fetchFile } = await import('./carry-files.ts')
    for (const file of attachments) {
      if (here.has(file.attachment_id)) continue
      try {
        if (!isPlainName(file.filename) || file.filename.includes('/')) throw new Error('its name is not one of a file')
        const bytes_max = LATER_ATTACHMENT_BYTES_MAX
        await fetchFile({ url: file.download_url, path: pathOf(file), bytes_max, signal: limit })
        here.set(file.attachment_id, file)
        transcript.system('info', 'attachment', `Put the file ${file.filename} at ${pathOf(file)}.`)
      } catch (error) {
        signal.throwIfAborted()
        transcript.system(
          'warning',
          'attachment_missing',
          `The file ${file.filename} could not be had: ${whyOf(error)}.`,
        )
      }
    }
  }

  return {
    folder,
    take() {
      taking = taking.then(takeNow).catch((error: unknown) => {
        if (!signal.aborted)
          transcript.system('warning', 'attachment_missing', `Attachments could not be had: ${whyOf(error)}`)
      })
      return taking
    },
    taken: () => taking,
    render() {
      const files = [...here.values()]
      if (files.length === 0) return ''
      const lines = files.map((file) => `- ${pathOf(file)} (${file.mime_type}, ${megabytes(file.size_bytes)})`)
      return ['Files that came with your task:', ...lines].join('\n')
    },
  }
}
