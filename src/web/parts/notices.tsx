/** What the agent told the person behind its run: the last of it in full, what went before on request. */
import { Bell } from 'lucide-react'
import type { Notice, Run } from '../../contract/index.ts'
import { Prose } from '../transcript/prose.tsx'
import { When } from './clock.tsx'

export function Notices({ run }: { run: Run }) {
  const last = run.notices.at(-1)
  if (!last) return null
  const before = run.notices.slice(0, -1).reverse()
  return (
    <section
      aria-label="Notices"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
      tabIndex={0}
      className="mb-2 max-h-64 shrink-0 overflow-y-auto rounded-xl border border-accent bg-raised px-4 py-3"
    >
      <Told notice={last} />
      {before.length > 0 && (
        <details className="mt-2 text-sm">
          <summary className="min-h-7 w-fit text-soft pointer-coarse:min-h-10">
            {before.length === 1 ? '1 earlier notice' : `${before.length} earlier notices`}
          </summary>
          <div className="flex flex-col gap-3 pt-1">
            {before.map((notice) => (
              <Told key={notice.notice_id} notice={notice} />
            ))}
          </div>
        </details>
      )}
    </section>
  )
}

function Told({ notice }: { notice: Notice }) {
  return (
    <div className="flex items-start gap-2">
      <Bell aria-hidden className="mt-1 size-4 shrink-0 text-working" />
      <div className="min-w-0 flex-1">
        <Prose text={notice.message} />
        <p className="text-sm text-soft">
          The agent told you <When at={notice.created_at} />.
        </p>
      </div>
    </div>
  )
}
