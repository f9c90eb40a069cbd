import { Sparkles, X } from 'lucide-react'
import type { RunMode } from '../../contract/index.ts'
import { MODE_SAYS, MODE_WORDS } from '../words.ts'

/** Says that the start of what was typed is read as a mode, and takes that back. */
export function ModeChip({ mode, onDismiss }: { mode: RunMode; onDismiss: () => void }) {
  return (
    <p role="status" className="flex flex-wrap items-center gap-x-2 gap-y-1 text-sm">
      <span className="inline-flex items-center gap-1 rounded-full border border-working pl-2.5 font-medium text-working">
        <Sparkles aria-hidden className="size-3.5" />
        {MODE_WORDS[mode]}
        <button
          type="button"
          aria-label={`Not a mode: keep /${mode} as text`}
          title={`Keep /${mode} as text`}
          className="grid size-7 place-items-center rounded-full hover:bg-raised pointer-coarse:size-9"
          onClick={onDismiss}
        >
          <X aria-hidden className="size-3.5" />
        </button>
      </span>
      <span className="text-soft">
        <code className="font-mono">/{mode}</code> was understood. {MODE_SAYS[mode]}
      </span>
    </p>
  )
}
