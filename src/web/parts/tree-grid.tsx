// biome-ignore-all lint/a11y/useSemanticElements: rows of a table cannot be placed one by one as the virtualizer does it
// biome-ignore-all lint/a11y/useFocusableInteractive: rows have the focus, cells have none
/**
 * A tree of runs as a table: any depth, only the rows near the eye are mounted. The arrow keys move as in every tree
 * grid: up and down between rows, right opens, left closes or goes to the parent, Enter goes to the run.
 */
import { Link, useNavigate } from '@tanstack/react-router'
import { useVirtualizer } from '@tanstack/react-virtual'
import { ChevronRight, Mail } from 'lucide-react'
import { type KeyboardEvent, useMemo, useRef, useState } from 'react'
import type { TreeNode } from '../../contract/index.ts'
import { indexTree, type TreeRow, treeRows } from '../data/tree.ts'
import { harnessWord, nodeStatus, STATUS_WORDS } from '../words.ts'
import { Avatar } from './avatar.tsx'
import { Length } from './clock.tsx'
import { StatusText } from './status.tsx'

/** Of every row, in pixels. */
const ROW_PX = 54
/** Deeper rows are indented no further than this many levels. */
const INDENT_LEVELS_MAX = 8
const INDENT_PX = 16

const COLUMNS =
  'grid grid-cols-[minmax(0,1fr)_auto] items-center gap-x-3 px-2 sm:grid-cols-[minmax(0,1fr)_7rem_4.5rem_5.5rem] xl:grid-cols-[minmax(0,1fr)_7rem_7rem_4.5rem_5.5rem]'

export function TreeGrid({ top, nodes }: { top: string; nodes: TreeNode[] }) {
  const [closed, setClosed] = useState<ReadonlySet<string>>(new Set())
  const index = useMemo(() => indexTree(nodes), [nodes])
  const rows = useMemo(() => treeRows(index, top, closed), [index, top, closed])
  const [at, setAt] = useState(top)
  const scroller = useRef<HTMLDivElement>(null)
  const navigate = useNavigate()
  const virtualizer = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_PX,
    getItemKey: (row) => rows[row]?.node.run_id ?? row,
    overscan: 8,
  })
  const current = Math.max(
    0,
    rows.findIndex((row) => row.node.run_id === at),
  )
  const toggle = (run_id: string) =>
    setClosed((held) => {
      const next = new Set(held)
      if (!next.delete(run_id)) next.add(run_id)
      return next
    })
  const focus = (row: number) => {
    const run_id = rows[row]?.node.run_id
    if (run_id === undefined) return
    setAt(run_id)
    virtualizer.scrollToIndex(row)
    requestAnimationFrame(() => scroller.current?.querySelector<HTMLElement>(`[data-node="${run_id}"]`)?.focus())
  }
  const onKey = (event: KeyboardEvent<HTMLElement>) => {
    const row = rows[current]
    if (!row || !(event.target instanceof HTMLElement) || event.target.role !== 'row') return
    const next = step(event.key, rows, current)
    if (next === 'toggle') toggle(row.node.run_id)
    else if (next === 'open') void navigate({ to: '/runs/$runId', params: { runId: row.node.run_id } })
    else if (next === undefined) return
    else focus(next)
    event.preventDefault()
  }
  return (
    <div
      role="treegrid"
      aria-label="Runs of this tree"
      aria-rowcount={rows.length + 1}
      className="flex min-h-0 flex-col rounded-xl border border-line text-sm"
      onKeyDown={onKey}
    >
      <div role="row" aria-rowindex={1} className={`${COLUMNS} min-h-9 border-b border-line font-medium text-soft`}>
        <span role="columnheader">Run</span>
        <span role="columnheader">State</span>
        <span role="columnheader" className="max-xl:hidden">
          Harness
        </span>
        <span role="columnheader" className="text-right max-sm:hidden">
          Tokens
        </span>
        <span role="columnheader" className="text-right max-sm:hidden">
          Duration
        </span>
      </div>
      <div
        role="rowgroup"
        ref={scroller}
        data-testid="tree-rows"
        className="max-h-[60dvh] min-h-0 overflow-y-auto lg:max-h-none"
      >
        <div role="presentation" className="relative" style={{ height: virtualizer.getTotalSize() }}>
          {virtualizer.getVirtualItems().map((item) => {
            const row = rows[item.index]
            return (
              row && (
                <GridRow
                  key={item.key}
                  row={row}
                  place={item.index}
                  start={item.start}
                  reached={item.index === current}
                  onToggle={() => toggle(row.node.run_id)}
                  onReach={() => setAt(row.node.run_id)}
                />
              )
            )
          })}
        </div>
      </div>
    </div>
  )
}

/** Where a key leads: a row, into the run, or to opening or closing this row. */
function step(key: string, rows: TreeRow[], at: number): number | 'toggle' | 'open' | undefined {
  const row = rows[at]
  switch (key) {
    case 'ArrowDown':
      return Math.min(rows.length - 1, at + 1)
    case 'ArrowUp':
      return Math.max(0, at - 1)
    case 'Home':
      return 0
    case 'End':
      return rows.length - 1
    case 'Enter':
      return 'open'
    case 'ArrowRight':
      return row?.open === undefined ? undefined : row.open ? at + 1 : 'toggle'
    case 'ArrowLeft': {
      if (row?.open) return 'toggle'
      const parent = rows.findIndex(({ node }) => node.run_id === row?.node.parent_run_id)
      return parent === -1 ? undefined : parent
    }
  }
  return undefined
}

type GridRowProps = {
  row: TreeRow
  place: number
  start: number
  reached: boolean
  onToggle: () => void
  onReach: () => void
}

function GridRow({ row, place, start, reached, onToggle, onReach }: GridRowProps) {
  const { node, level, open } = row
  const indent = Math.min(level - 1, INDENT_LEVELS_MAX) * INDENT_PX
  return (
    <div
      role="row"
      aria-rowindex={place + 2}
      aria-level={level}
      aria-posinset={row.place}
      aria-setsize={row.siblings}
      aria-expanded={open}
      tabIndex={reached ? 0 : -1}
      data-node={node.run_id}
      onFocus={onReach}
      className={`${COLUMNS} absolute top-0 left-0 w-full -outline-offset-2 hover:bg-raised ${place > 0 ? 'border-t border-line' : ''}`}
      style={{ height: ROW_PX, transform: `translateY(${start}px)` }}
    >
      <div role="gridcell" className="flex min-w-0 items-center gap-1.5" style={{ paddingLeft: indent }}>
        {open === undefined ? (
          <span className="size-7 shrink-0" />
        ) : (
          <button
            type="button"
            tabIndex={-1}
            aria-label={open ? `Close ${node.name}` : `Open ${node.name}`}
            onClick={onToggle}
            className="grid size-7 shrink-0 place-items-center rounded-md text-soft hover:bg-sunken"
          >
            <ChevronRight aria-hidden className={`size-4 transition-transform ${open ? 'rotate-90' : ''}`} />
          </button>
        )}
        <Avatar name={node.name} />
        <div className="min-w-0">
          <Link
            to="/runs/$runId"
            params={{ runId: node.run_id }}
            tabIndex={-1}
            title={node.title}
            className="block truncate font-medium hover:underline"
          >
            {node.name}
          </Link>
          <span className="flex min-w-0 items-center gap-1.5 text-soft">
            {node.undelivered > 0 && (
              <span
                className="inline-flex shrink-0 items-center gap-0.5 text-needs"
                title={`${node.undelivered} messages wait to be given to it`}
              >
                <Mail aria-hidden className="size-3.5" />
                {node.undelivered}
                <span className="sr-only"> undelivered</span>
              </span>
            )}
            <span className="truncate" title={node.last_words}>
              {node.last_words ?? 'Has said nothing yet.'}
            </span>
          </span>
        </div>
      </div>
      <div role="gridcell">
        <StatusText status={nodeStatus(node)}>{STATUS_WORDS[nodeStatus(node)]}</StatusText>
      </div>
      <div role="gridcell" className="truncate text-soft max-xl:hidden" title={node.worker_host}>
        {harnessWord(node.harness)}
      </div>
      <div role="gridcell" className="text-right text-soft tabular-nums max-sm:hidden">
        {node.total_tokens > 0 ? node.total_tokens.toLocaleString() : '–'}
      </div>
      <div role="gridcell" className="text-right text-soft max-sm:hidden">
        {node.started_at === null ? '–' : <Length from={node.started_at} to={node.ended_at} />}
      </div>
    </div>
  )
}
