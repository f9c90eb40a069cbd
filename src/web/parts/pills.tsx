/** The pills of a tree: as many as fit, the others in a menu. The arrow keys move between them. */
import { Link } from '@tanstack/react-router'
import { ChevronDown } from 'lucide-react'
import { type KeyboardEvent, useEffect, useLayoutEffect, useRef, useState } from 'react'
import type { TreeNode } from '../../contract/index.ts'
import { nodeStatus, STATUS_WORDS } from '../words.ts'
import { Avatar } from './avatar.tsx'
import { moveFocus } from './move-focus.ts'
import { StatusIcon } from './status.tsx'

/** Widths in pixels: of a pill without its name, of a letter, the most of a name, the gap, the button of the menu. */
const BARE_PX = 68
const LETTER_PX = 7.5
const NAME_PX = 112
const GAP_PX = 6
const MENU_PX = 64
/** On a narrow page names are cut sooner, so that there is a child beside its parent. */
const NARROW_PX = 480
const NARROW_NAME_PX = 72

const widthOf = (name: string, room: number): number =>
  BARE_PX + Math.min(room < NARROW_PX ? NARROW_NAME_PX : NAME_PX, [...name].length * LETTER_PX + 2)

type Props = { anchor: TreeNode; pills: TreeNode[]; current: string }

export function Pills({ anchor, pills, current }: Props) {
  const [box, width] = useWidth()
  const { shown, rest } = shareOut(anchor, pills, current, width)
  const move = (event: KeyboardEvent<HTMLElement>) => moveFocus(event, '[role=tab]', { ArrowLeft: -1, ArrowRight: 1 })
  const held = [anchor, ...shown].some((node) => node.run_id === current) ? current : anchor.run_id
  return (
    <div ref={box} className="flex min-w-0 gap-1.5" data-testid="pill-bar">
      <div role="tablist" aria-label="Agents of this tree" className="flex min-w-0 gap-1.5" onKeyDown={move}>
        {[anchor, ...shown].map((node) => (
          <Pill
            key={node.run_id}
            node={node}
            selected={node.run_id === current}
            reached={node.run_id === held}
            leads={node === anchor}
            width={widthOf(node.name, width)}
          />
        ))}
      </div>
      {rest.length > 0 && <Overflow key={current} rest={rest} />}
    </div>
  )
}

/** The current one is always shown, in the last place where its own does not fit. */
function shareOut(anchor: TreeNode, pills: TreeNode[], current: string, width: number) {
  let left = width - widthOf(anchor.name, width)
  const sizes = pills.map((node) => widthOf(node.name, width) + GAP_PX)
  const all = sizes.reduce((sum, size) => sum + size, 0)
  if (all <= left) return { shown: pills, rest: [] }
  left -= MENU_PX + GAP_PX
  const own = pills.find((node) => node.run_id === current)
  const taken = new Set<TreeNode>()
  if (own) {
    taken.add(own)
    left -= widthOf(own.name, width) + GAP_PX
  }
  for (const node of pills) {
    if (taken.has(node)) continue
    left -= widthOf(node.name, width) + GAP_PX
    if (left < 0) break
    taken.add(node)
  }
  return { shown: pills.filter((node) => taken.has(node)), rest: pills.filter((node) => !taken.has(node)) }
}

type PillProps = { node: TreeNode; selected: boolean; reached: boolean; leads: boolean; width: number }

function Pill({ node, selected, reached, leads, width }: PillProps) {
  const status = nodeStatus(node)
  return (
    <Link
      to="/runs/$runId"
      params={{ runId: node.run_id }}
      role="tab"
      aria-selected={selected}
      tabIndex={reached ? 0 : -1}
      data-pill={node.run_id}
      title={node.last_words === undefined ? node.name : `${node.name}: ${node.last_words}`}
      style={{ width }}
      className={`inline-flex min-h-8 shrink-0 items-center gap-1.5 rounded-full border border-line pr-2.5 pl-1.5 text-sm hover:bg-raised pointer-coarse:min-h-10 aria-selected:border-working aria-selected:bg-raised aria-selected:font-medium ${leads ? 'border-edge' : ''}`}
    >
      <Avatar name={node.name} />
      <span className="min-w-0 flex-1 truncate">{node.name}</span>
      <StatusIcon status={status} />
      <span className="sr-only">
        {leads ? ', orchestrator' : ''}, {STATUS_WORDS[status]}
      </span>
    </Link>
  )
}

function Overflow({ rest }: { rest: TreeNode[] }) {
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
      className="relative shrink-0"
      onKeyDown={onKey}
      onBlur={(event) => {
        if (!event.currentTarget.contains(event.relatedTarget)) setOpen(false)
      }}
    >
      <button
        type="button"
        aria-haspopup="menu"
        aria-expanded={open}
        aria-label={`${rest.length} more agents`}
        onClick={() => setOpen(!open)}
        className="inline-flex min-h-8 items-center gap-0.5 rounded-full border border-edge px-2.5 text-sm tabular-nums hover:bg-raised pointer-coarse:min-h-10"
      >
        +{rest.length}
        <ChevronDown aria-hidden className="size-3.5" />
      </button>
      {open && (
        <div
          role="menu"
          aria-label="More agents"
          tabIndex={-1}
          className="absolute right-0 z-20 mt-1 max-h-80 w-64 max-w-[calc(100vw-2rem)] overflow-y-auto rounded-xl border border-line bg-page p-1 shadow-lg"
        >
          {rest.map((node) => (
            <Link
              key={node.run_id}
              to="/runs/$runId"
              params={{ runId: node.run_id }}
              role="menuitem"
              tabIndex={-1}
              className="flex min-h-9 items-center gap-2 rounded-lg px-2 text-sm hover:bg-raised focus-visible:bg-raised pointer-coarse:min-h-11"
            >
              <Avatar name={node.name} />
              <span className="min-w-0 flex-1 truncate">{node.name}</span>
              <StatusIcon status={nodeStatus(node)} />
              <span className="text-soft">{STATUS_WORDS[nodeStatus(node)]}</span>
            </Link>
          ))}
        </div>
      )}
    </div>
  )
}

function useWidth() {
  const box = useRef<HTMLDivElement>(null)
  const [width, setWidth] = useState(0)
  useLayoutEffect(() => {
    const element = box.current
    if (!element) return
    setWidth(element.clientWidth)
    const watch = new ResizeObserver(() => setWidth(element.clientWidth))
    watch.observe(element)
    return () => watch.disconnect()
  }, [])
  return [box, width] as const
}
