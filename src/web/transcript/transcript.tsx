/**
 * The transcript as it scrolls: only the rows near the eye are mounted. Whoever stands at the end stays there as it
 * grows; whoever reads further up keeps the row that he reads, whatever comes before or after. The virtualizer
 * alone moves the scroll position.
 */
import { useVirtualizer } from '@tanstack/react-virtual'
import { ArrowDown } from 'lucide-react'
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from 'react'
import { withHappenings } from '../data/happenings.ts'
import { FIRST_ENTRIES } from '../data/transcript.ts'
import { useHappenings } from '../data/use-happenings.ts'
import { useTranscript } from '../data/use-transcript.ts'
import { Refused, sentenceOf, Waiting } from '../parts/faces.tsx'
import { guessHeight, type Item, itemsOf } from './items.ts'
import { Prompt, Row } from './row.tsx'

/** Nearer to the end than this, in pixels, counts as at the end. */
const AT_END_PX = 48
/** Nearer to the first or last row than this, in rows, more is read. */
const MORE_ROWS = 10

type TranscriptProps = { run_id: string; ended: boolean }
/** `prompt` is shown while the transcript is empty. */
type Props = TranscriptProps & { prompt: string }

export function Transcript({ run_id, prompt, ended }: Props) {
  const transcript = useTranscript(run_id)
  const { window, live, move, moving, refusal } = transcript
  const since = window.data?.has_earlier ? window.data.entries[0]?.at : undefined
  const happenings = useHappenings(run_id, since)
  const said = window.data?.entries.length !== 0 || (!ended && live.length > 0)
  const items = useMemo(() => {
    const { entries = [], has_earlier = false, has_later = false } = window.data ?? {}
    const rows = itemsOf(entries, ended || has_later ? [] : live)
    return withHappenings(rows, happenings, { has_earlier, has_later })
  }, [window.data, live, ended, happenings])
  if (window.isPending) return <Waiting>Loading the transcript…</Waiting>
  if (!window.data)
    return (
      <Refused title="The transcript could not be read" error={window.error} onRetry={() => void window.refetch()} />
    )
  if (!said)
    return (
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
      <section tabIndex={0} aria-label="Transcript" className="mt-1 lg:overflow-y-auto">
        <Prompt text={prompt} />
        {items.map((item) => (
          <Opening key={item.key} item={item} run_id={run_id} ended={ended} />
        ))}
        <p className="py-8 text-center text-soft">
          {ended ? 'The run left no transcript.' : 'Nothing has been said yet. It will show up here as it happens.'}
        </p>
      </section>
    )
  return (
    <section aria-label="Transcript" className="relative mt-1 flex min-h-[75dvh] flex-1 lg:min-h-0 basis-0 flex-col">
      {(moving === 'earlier' || refusal !== undefined) && (
        <p
          role="status"
          className="absolute top-1 left-1/2 z-10 -translate-x-1/2 rounded-full border border-line bg-page px-3 py-0.5 text-sm shadow-sm"
        >
          {refusal === undefined ? (
            'Loading earlier entries…'
          ) : (
            <span className="text-failed">{sentenceOf(refusal)}</span>
          )}
        </p>
      )}
      <Rows
        items={items}
        run_id={run_id}
        ended={ended}
        window={window.data}
        move={move}
        stuck={moving !== undefined || refusal !== undefined}
      />
    </section>
  )
}

/** A row before anything has been said. */
function Opening({ item, run_id, ended }: { item: Item; run_id: string; ended: boolean }) {
  const [open, setOpen] = useState(false)
  return <Row item={item} run_id={run_id} ended={ended} open={open} onToggle={() => setOpen(!open)} />
}

type RowsProps = TranscriptProps & {
  items: Item[]
  window: { has_earlier: boolean; has_later: boolean }
  move: (where: 'earlier' | 'later' | 'end') => Promise<void>
  /** Something is being read, or was refused. */
  stuck: boolean
}

function Rows({ items, run_id, ended, window, move, stuck }: RowsProps) {
  const scroller = useRef<HTMLElement>(null)
  const [ready, setReady] = useState(false)
  const [opened, toggle] = useOpened()
  const virtualizer = useVirtualizer({
    count: items.length,
    getScrollElement: () => scroller.current,
    estimateSize: (index) => guessHeight(items[index]),
    getItemKey: useCallback((index: number) => items[index]?.key ?? index, [items]),
    anchorTo: 'end',
    followOnAppend: !window.has_later,
    scrollEndThreshold: AT_END_PX,
    overscan: 6,
    paddingEnd: 16,
  })

  // The start is in sight for a moment before the end is: nothing earlier is wanted by that.
  useLayoutEffect(() => {
    virtualizer.scrollToEnd()
    setReady(true)
  }, [virtualizer])

  const rows = virtualizer.getVirtualItems()
  const first = rows[0]?.index ?? 0
  const last = rows.at(-1)?.index ?? 0
  const atEnd = virtualizer.isAtEnd(AT_END_PX) && !window.has_later
  const arrived = useRef(false)
  useEffect(() => {
    if (ready && atEnd && last === items.length - 1) arrived.current = true
    if (!arrived.current || stuck) return
    if (
      window.has_earlier &&
      first < MORE_ROWS &&
      (items.length < FIRST_ENTRIES || !atEnd || last - first + MORE_ROWS > items.length)
    )
      void move('earlier')
    else if (window.has_later && last >= items.length - MORE_ROWS) void move('later')
  }, [ready, stuck, window, first, last, items.length, atEnd, move])

  const toEnd = async () => {
    if (window.has_later) await move('end')
    virtualizer.scrollToEnd()
  }
  return (
    <>
      <section
        ref={scroller}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        tabIndex={0}
        aria-label="Entries of the transcript"
        data-testid="transcript"
        className="min-h-0 flex-1 -mr-3 overflow-y-auto overscroll-contain pr-3 [overflow-anchor:none]"
      >
        <div className="relative w-full" style={{ height: virtualizer.getTotalSize() }}>
          {rows.map((row) => {
            const item = items[row.index]
            return (
              item && (
                <div
                  key={row.key}
                  data-index={row.index}
                  data-key={row.key}
                  ref={virtualizer.measureElement}
                  className="absolute top-0 left-0 flow-root w-full"
                  style={{ transform: `translateY(${row.start}px)` }}
                >
                  <Row item={item} run_id={run_id} ended={ended} open={opened.has(item.key)} onToggle={toggle} />
                </div>
              )
            )
          })}
        </div>
      </section>
      <NewBelow items={items} atEnd={atEnd} has_later={window.has_later} onShow={() => void toEnd()} />
    </>
  )
}

/** Kept above the rows, so that a row scrolled away and back is as it was left. */
function useOpened(): [ReadonlySet<string>, (key: string) => void] {
  const [opened, setOpened] = useState<ReadonlySet<string>>(new Set())
  const toggle = useCallback(
    (key: string) =>
      setOpened((held) => {
        const next = new Set(held)
        if (!next.delete(key)) next.add(key)
        return next
      }),
    [],
  )
  return [opened, toggle]
}

function NewBelow({
  items,
  atEnd,
  has_later,
  onShow,
}: {
  items: Item[]
  atEnd: boolean
  has_later: boolean
  onShow: () => void
}) {
  const newest = items.at(-1)?.key
  const [seen, setSeen] = useState(newest)
  if (atEnd && seen !== newest) setSeen(newest)
  if (atEnd) return null
  const at = items.findIndex((item) => item.key === seen)
  const count = has_later || at === -1 ? 0 : items.length - 1 - at
  return (
    <button
      type="button"
      className="button absolute bottom-4 left-1/2 h-9 -translate-x-1/2 rounded-full bg-page shadow-md"
      onClick={onShow}
    >
      <ArrowDown aria-hidden className="size-4" />
      {count > 0 ? `${count} new` : 'To the end'}
    </button>
  )
}
