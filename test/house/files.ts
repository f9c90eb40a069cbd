/** Files that a run keeps, sent as a client sends them. */
import { crc32cSum } from '../../src/contract/crc32c.ts'
import type { FileToSend, KeptFile, UploadTarget } from '../../src/contract/index.ts'
import type { Client } from '../../src/sdk/client.ts'

type Asked = Omit<FileToSend, 'artifact_type'> & { artifact_type?: FileToSend['artifact_type'] }

export function checksumOf(content: string | Uint8Array): string {
  const sum = crc32cSum()
  sum.add(Buffer.from(content))
  return sum.text()
}

/** As its target says: the bare bytes, or a form of just these fields in this order. */
export function send(target: UploadTarget, content: string | Uint8Array<ArrayBuffer>): Promise<Response> {
  const { url, method, headers, fields } = target
  if (fields === null) return fetch(url, { method, headers: headers ?? {}, body: content })
  const form = new FormData()
  for (const { name, value } of fields) {
    if (value.kind === 'static') form.append(name, value.value)
    else if (value.kind === 'content_crc32c') form.append(name, checksumOf(content))
    else form.append(name, new Blob([content]))
  }
  return fetch(url, { method, body: form })
}

/** All three steps. */
export async function sendFile(client: Client, file: Asked, content: string): Promise<KeptFile> {
  const { upload_id, upload_target } = await client.artifacts.upload({ body: file })
  const { ok, status } = await send(upload_target, content)
  if (!ok) throw new Error(`The file was not taken: ${status}`)
  return client.artifacts.confirm({ params: { upload_id }, body: { checksum: checksumOf(content) } })
}
