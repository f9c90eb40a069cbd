/** What runs made for people, as links: to where it is, or to the file itself. */
import { Download, ExternalLink } from 'lucide-react'
import { useState } from 'react'
import { z } from 'zod'
import { API_PREFIX, type Run } from '../../contract/index.ts'

/** Listed at first. */
const SHOWN = 5

export type ShownArtifact = {
  artifact_type: string
  artifact_uid?: string
  data: unknown
  /** Who made it, where that is not clear. */
  by?: string | undefined
}

/** What is known of an artifact of whatever kind. */
const Face = z.object({
  artifact_uid: z.string().optional().catch(undefined),
  url: z
    .url({ protocol: /^https?$/ })
    .optional()
    .catch(undefined),
  title: z.string().optional().catch(undefined),
  branch: z.string().optional().catch(undefined),
  filename: z.string().optional().catch(undefined),
  description: z.string().optional().catch(undefined),
})

export function RunArtifacts({ run: { artifacts } }: { run: Run }) {
  if (artifacts.length === 0) return null
  return (
    <section aria-labelledby="artifacts" className="mt-3">
      <h2 id="artifacts" className="mb-1 text-sm font-semibold">
        Artifacts
      </h2>
      <Artifacts artifacts={artifacts} />
    </section>
  )
}

/** The newest come last. */
export function Artifacts({ artifacts }: { artifacts: ShownArtifact[] }) {
  const [all, setAll] = useState(false)
  const shown = all ? artifacts : artifacts.slice(-SHOWN)
  const before = artifacts.length - shown.length
  return (
    <ul aria-label="Artifacts" className="flex flex-wrap gap-2 text-sm">
      {shown.map((artifact) => (
        <OneArtifact key={artifact.artifact_uid ?? JSON.stringify(artifact.data)} artifact={artifact} />
      ))}
      {before > 0 && (
        <li>
          <button type="button" className="link min-h-8" onClick={() => setAll(true)}>
            Show all {artifacts.length}
          </button>
        </li>
      )}
    </ul>
  )
}

function OneArtifact({ artifact: { artifact_type, artifact_uid, data, by } }: { artifact: ShownArtifact }) {
  const face = Face.catch({}).parse(data)
  const title = face.title ?? face.branch ?? face.filename ?? face.description ?? face.url ?? ''
  return (
    <li className="flex max-w-full items-center gap-1.5 rounded-lg border border-line px-2.5 py-1">
      <span className="shrink-0 text-soft first-letter:uppercase">
        {artifact_type.toLowerCase().replaceAll('_', ' ')}
      </span>
      <Title type={artifact_type} uid={artifact_uid ?? face.artifact_uid} url={face.url} title={title} />
      {by !== undefined && <span className="max-w-32 truncate text-soft">by {by}</span>}
    </li>
  )
}

type TitleProps = { type: string; uid: string | undefined; url: string | undefined; title: string }

function Title({ type, uid, url, title }: TitleProps) {
  if (uid !== undefined && (type === 'FILE' || type === 'SCREENSHOT'))
    return (
      <a href={`${API_PREFIX}/agent/artifacts/${uid}/download`} download className="link inline-flex min-w-0 gap-1">
        <span className="truncate">{title || 'Download'}</span>
        <Download aria-hidden className="mt-1 size-3.5 shrink-0" />
      </a>
    )
  if (url === undefined) return <span className="truncate">{title}</span>
  return (
    <a href={url} target="_blank" rel="noopener noreferrer" className="link inline-flex min-w-0 gap-1">
      <span className="truncate">{title}</span>
      <ExternalLink aria-hidden className="mt-1 size-3.5 shrink-0" />
    </a>
  )
}
