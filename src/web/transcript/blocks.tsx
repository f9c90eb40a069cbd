/** Parts that several kinds of rows are made of. */
import { ChevronRight } from 'lucide-react'
import { memo, type ReactNode } from 'react'
import type { z } from 'zod'
import type { FileChange } from '../../contract/index.ts'
import { parseAnsi } from '../ansi.ts'
import { diffLines } from '../diff.ts'

type Change = z.infer<typeof FileChange>

/** Lines of one change shown at first. */
const DIFF_LINES_MAX = 400

export const Ansi = memo(function Ansi({ text }: { text: string }) {
  return parseAnsi(text).map((piece, index) => (
    // biome-ignore lint/suspicious/noArrayIndexKey: they have no identity but their place
    <span key={index} className={piece.classes || undefined}>
      {piece.text}
    </span>
  ))
})

export function Code({ label, text }: { label: string; text: string }) {
  return (
    <div>
      <p className="text-sm text-soft">{label}</p>
      <section
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        tabIndex={0}
        aria-label={label}
        className="max-h-96 overflow-auto rounded-lg border border-line bg-sunken px-3 py-2 font-mono text-[0.8125rem] leading-5 whitespace-pre-wrap wrap-anywhere"
      >
        <Ansi text={text} />
      </section>
    </div>
  )
}

type DisclosureProps = { open: boolean; onToggle: () => void; summary: ReactNode; children: ReactNode }

/** One line that opens. */
export function Disclosure({ open, onToggle, summary, children }: DisclosureProps) {
  return (
    <div>
      <button
        type="button"
        aria-expanded={open}
        onClick={onToggle}
        className="-mx-1.5 flex min-h-8 pointer-coarse:min-h-10 w-[calc(100%+0.75rem)] min-w-0 items-center gap-1.5 rounded-md px-1.5 text-left hover:bg-raised"
      >
        <ChevronRight
          aria-hidden
          className={`size-4 shrink-0 text-soft transition-transform ${open ? 'rotate-90' : ''}`}
        />
        {summary}
      </button>
      {open && <div className="mt-1 mb-2 ml-5.5 flex min-w-0 flex-col gap-2">{children}</div>}
    </div>
  )
}

const DIFF_LOOK = {
  same: { mark: ' ', className: '', word: '' },
  added: { mark: '+', className: 'bg-added-wash text-succeeded', word: 'added: ' },
  removed: { mark: '-', className: 'bg-failed-wash text-failed', word: 'removed: ' },
}

export function Diff({ change }: { change: Change }) {
  const lines = diffLines(change.old_text, change.new_text)
  const left = lines.length - DIFF_LINES_MAX
  return (
    <div>
      <p className="text-sm text-soft wrap-anywhere">
        {change.old_text === null ? 'New file' : 'Changed'}: <span className="font-mono">{change.path}</span>
      </p>
      <section
        aria-label={`Change of ${change.path}`}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        tabIndex={0}
        className="max-h-96 overflow-auto rounded-lg border border-line bg-sunken py-1 font-mono text-[0.8125rem] leading-5"
      >
        {lines.slice(0, DIFF_LINES_MAX).map((line, index) =>
          line.kind === 'skipped' ? (
            // biome-ignore lint/suspicious/noArrayIndexKey: they have no identity but their place
            <p key={index} className="px-3 text-soft">
              ⋯ {line.lines} unchanged {line.lines === 1 ? 'line' : 'lines'}
            </p>
          ) : (
            // biome-ignore lint/suspicious/noArrayIndexKey: they have no identity but their place
            <p key={index} className={`px-3 whitespace-pre-wrap wrap-anywhere ${DIFF_LOOK[line.kind].className}`}>
              <span aria-hidden className="mr-2 select-none">
                {DIFF_LOOK[line.kind].mark}
              </span>
              <span className="sr-only">{DIFF_LOOK[line.kind].word}</span>
              {line.text}
            </p>
          ),
        )}
        {left > 0 && <p className="px-3 text-soft">⋯ {left} more lines</p>}
      </section>
    </div>
  )
}
