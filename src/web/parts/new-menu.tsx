/** What can be begun: a run, or a batch of many. */
import { Link } from '@tanstack/react-router'
import { ListChecks, Play, Plus } from 'lucide-react'
import { type KeyboardEvent, useEffect, useRef, useState } from 'react'
import { moveFocus } from './move-focus.ts'

const ITEMS = [
  { to: '/runs/new', Icon: Play, word: 'New run', says: 'One task for one agent' },
  { to: '/batches/new', Icon: ListChecks, word: 'Orchestrator', says: 'A list of tasks for many agents' },
] as const

export function NewMenu() {
  const [open, setOpen] = useState(false)
  const box = useRef<HTMLDivElement>(null)
  useEffect(() => {
    if (open) box.current?.querySelector<HTMLElement>('[role=menuitem]')?.focus()
  }, [open])
  const onKey = (event: KeyboardEvent<HTMLElement>) => {
    if (event.key === 'Escape') {
      setOpen(false)
      box.current?.querySelector('button')?.focus()
    } else if (open) moveFocus(event, '[role=menuitem]', { ArrowUp: -1, ArrowDown: 1 })
  }
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: it hears the keys of the menu within it
    <div
      ref={box}
      className="relative"
      onKeyDown={onKey}
      onBlur={(event) => {
        if (!event.currentTarget.contains(event.relatedTarget)) setOpen(false)
      }}
    >
      <button
        type="button"
        aria-haspopup="menu"
        aria-expanded={open}
        aria-label="New"
        title="New"
        onClick={() => setOpen(!open)}
        className="grid size-9 place-items-center rounded-lg hover:bg-raised pointer-coarse:size-11"
      >
        <Plus aria-hidden className="size-5" />
      </button>
      {open && (
        <div
          role="menu"
          aria-label="New"
          tabIndex={-1}
          className="absolute right-0 z-30 mt-1 w-64 max-w-[calc(100vw-2rem)] rounded-xl border border-line bg-page p-1 shadow-lg"
        >
          {ITEMS.map(({ to, Icon, word, says }) => (
            <Link
              key={to}
              to={to}
              role="menuitem"
              tabIndex={-1}
              onClick={() => setOpen(false)}
              className="flex min-h-11 items-center gap-3 rounded-lg px-3 py-1.5 hover:bg-raised focus-visible:bg-raised"
            >
              <Icon aria-hidden className="size-4 shrink-0 text-soft" />
              <span>
                <span className="block font-medium">{word}</span>
                <span className="block text-sm text-soft">{says}</span>
              </span>
            </Link>
          ))}
        </div>
      )}
    </div>
  )
}
