/** One row of a transcript, by the kind of its entry. */
import { useQuery } from '@tanstack/react-query'
import {
  Bot,
  Circle,
  CircleAlert,
  CircleCheck,
  CircleDot,
  Info,
  ListChecks,
  MessageSquareText,
  TriangleAlert,
} from 'lucide-react'
import { memo, type ReactNode } from 'react'
import type { Entry, EntryBody } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import type { LiveText } from '../data/live.ts'
import { sentenceOf } from '../parts/faces.tsx'
import { sizeWords } from '../words.ts'
import { Ansi, Code, Disclosure } from './blocks.tsx'
import { HappeningRow } from './happening.tsx'
import type { Item } from './items.ts'
import { Prose } from './prose.tsx'
import { ToolRow } from './tool.tsx'

export type RowProps = { item: Item; run_id: string; ended: boolean; open: boolean; onToggle: (key: string) => void }

export const Row = memo(function Row({ item, run_id, ended, open, onToggle }: RowProps) {
  const toggle = () => onToggle(item.key)
  return (
    <>
      {item.execution !== undefined && (
        <p className="my-3 flex items-center gap-3 text-sm text-soft before:h-px before:flex-1 before:bg-line after:h-px after:flex-1 after:bg-line">
          Execution {item.execution}
        </p>
      )}
      {'happening' in item ? (
        <HappeningRow happening={item.happening} run_id={run_id} open={open} onToggle={toggle} />
      ) : 'live' in item ? (
        <LiveRow live={item.live} />
      ) : item.entry.body.kind === 'tool_call' ? (
        <ToolRow call={item.entry} result={item.result} run_id={run_id} ended={ended} open={open} onToggle={toggle} />
      ) : (
        <EntryRow entry={item.entry} run_id={run_id} ended={ended} open={open} onToggle={toggle} />
      )}
    </>
  )
})

type EntryProps = { entry: Entry; run_id: string; ended: boolean; open: boolean; onToggle: () => void }

/** Reads the whole entry once it is opened, where the transcript holds only its head. */
export function useWhole(run_id: string, entry: Entry | undefined, open: boolean) {
  const { queries } = useAsking()
  const cut = entry?.cut
  const whole = useQuery({ ...queries.entry(run_id, entry?.position ?? ''), enabled: open && cut !== undefined })
  return {
    body: (open ? whole.data?.body : undefined) ?? entry?.body,
    pending: whole.isLoading,
    error: whole.error,
    again: () => void whole.refetch(),
  }
}

function EntryRow({ entry, run_id, ended, open, onToggle }: EntryProps) {
  const whole = useWhole(run_id, entry, open)
  const body = whole.body ?? entry.body
  if (body.kind === 'tool_result')
    return <ToolRow call={undefined} result={entry} run_id={run_id} ended={ended} open={open} onToggle={onToggle} />
  return (
    <>
      <BodyRow body={body} open={open} onToggle={onToggle} />
      {entry.cut && hasShownHead(body) && (
        <p className="mt-1 text-sm">
          {whole.error ? (
            <>
              <span className="text-failed">{sentenceOf(whole.error)}</span>{' '}
              <button type="button" className="link min-h-6" onClick={whole.again}>
                Try again
              </button>
            </>
          ) : (
            <button type="button" className="link min-h-6" onClick={onToggle}>
              {open ? (whole.pending ? 'Loading…' : 'Show less') : `Show all ${sizeWords(entry.cut.bytes)}`}
            </button>
          )}
        </p>
      )}
    </>
  )
}

/** Kinds that show their text without being opened. */
const hasShownHead = (body: EntryBody) =>
  body.kind === 'prompt' ||
  body.kind === 'text' ||
  body.kind === 'output' ||
  body.kind === 'system' ||
  body.kind === 'plan'

function BodyRow({
  body,
  open,
  onToggle,
}: {
  body: Exclude<EntryBody, { kind: 'tool_result' }>
  open: boolean
  onToggle: () => void
}): ReactNode {
  switch (body.kind) {
    case 'prompt':
      return <Prompt text={body.text} />
    case 'text':
      return (
        <div className="my-2">
          <Prose text={body.text} />
        </div>
      )
    case 'thought':
      return (
        <Disclosure open={open} onToggle={onToggle} summary={<Thinking text={body.text} />}>
          <p className="whitespace-pre-wrap wrap-anywhere text-soft">{body.text}</p>
        </Disclosure>
      )
    case 'output':
      return <Output stream={body.stream} text={body.text} />
    case 'plan':
      return <Plan items={body.items} />
    case 'system':
      return <SystemRow body={body} open={open} onToggle={onToggle} />
    case 'gap':
      return (
        <Notice level="warning">
          {sizeWords(body.bytes)} of text could not be kept: {body.reason}
        </Notice>
      )
    case 'unknown':
    case 'tool_call':
      return (
        <Disclosure
          open={open}
          onToggle={onToggle}
          summary={<span className="text-soft">An update that this page does not know</span>}
        >
          <Code label="As it came" text={pretty(body.kind === 'unknown' ? body.raw : body)} />
        </Disclosure>
      )
  }
}

export function Prompt({ text }: { text: string }) {
  return (
    <div className="my-2 rounded-xl border border-line bg-raised px-4 py-3">
      <p className="mb-0.5 flex items-center gap-1.5 text-sm font-medium text-soft">
        <MessageSquareText aria-hidden className="size-4" />
        Prompt
      </p>
      <p className="whitespace-pre-wrap wrap-anywhere">{text}</p>
    </div>
  )
}

function LiveRow({ live }: { live: LiveText }) {
  const text = live.from > 0 ? `… ${live.text}` : live.text
  switch (live.kind) {
    case 'text':
      return (
        <div className="my-2" data-live>
          <Prose text={text} grows />
        </div>
      )
    case 'thought':
      return (
        <div className="my-1 flex gap-1.5 text-soft" data-live>
          <Bot aria-hidden className="mt-1 size-4 shrink-0 animate-pulse" />
          <p className="max-h-40 overflow-hidden whitespace-pre-wrap wrap-anywhere">{text.slice(-600)}</p>
        </div>
      )
    case 'output':
      return (
        <div data-live>
          <Output stream={live.stream ?? 'stdout'} text={text} />
        </div>
      )
  }
}

function Thinking({ text }: { text: string }) {
  return (
    <span className="flex min-w-0 items-center gap-1.5 text-soft">
      <Bot aria-hidden className="size-4 shrink-0" />
      <span className="shrink-0">Thought</span>
      <span className="truncate italic">{text.slice(0, 200)}</span>
    </span>
  )
}

function Output({ stream, text }: { stream: 'stdout' | 'stderr'; text: string }) {
  return (
    <div className={`border-l-2 bg-sunken px-3 ${stream === 'stderr' ? 'border-failed' : 'border-line'}`}>
      {stream === 'stderr' && <span className="sr-only">Error output: </span>}
      <pre className="font-mono text-[0.8125rem] leading-5 whitespace-pre-wrap wrap-anywhere">
        <Ansi text={text.replace(/\n$/, '')} />
      </pre>
    </div>
  )
}

const PLAN_MARKS = { pending: Circle, in_progress: CircleDot, completed: CircleCheck }
const PLAN_WORDS = { pending: 'to do', in_progress: 'in progress', completed: 'done' }

function PlanMark({ status }: { status: keyof typeof PLAN_MARKS }) {
  const Mark = PLAN_MARKS[status]
  return (
    <Mark aria-hidden className={`mt-1 size-4 shrink-0 ${status === 'in_progress' ? 'text-working' : 'text-soft'}`} />
  )
}

function Plan({ items }: { items: Extract<EntryBody, { kind: 'plan' }>['items'] }) {
  return (
    <div className="my-2 rounded-xl border border-line px-4 py-3">
      <p className="mb-1 flex items-center gap-1.5 text-sm font-medium text-soft">
        <ListChecks aria-hidden className="size-4" />
        Plan
      </p>
      <ul>
        {items.map((item, index) => (
          <li
            // biome-ignore lint/suspicious/noArrayIndexKey: they have no identity but their place
            key={index}
            className={`flex gap-2 ${item.status === 'completed' ? 'text-soft' : item.status === 'in_progress' ? 'font-medium' : ''}`}
          >
            <PlanMark status={item.status} />
            <span className="sr-only">{PLAN_WORDS[item.status]}: </span>
            <span className="min-w-0 wrap-anywhere">{item.content}</span>
          </li>
        ))}
      </ul>
    </div>
  )
}

const NOTICE_LOOK = {
  info: { Icon: Info, className: 'text-soft' },
  warning: { Icon: TriangleAlert, className: 'text-needs' },
  error: { Icon: CircleAlert, className: 'text-failed' },
}

function Notice({ level, children }: { level: 'info' | 'warning' | 'error'; children: ReactNode }) {
  const { Icon, className } = NOTICE_LOOK[level]
  return (
    <p className={`my-1 flex gap-1.5 text-sm ${className}`}>
      <Icon aria-hidden className="mt-0.5 size-4 shrink-0" />
      {level !== 'info' && <span className="sr-only">{level}: </span>}
      <span className="min-w-0 whitespace-pre-wrap wrap-anywhere">{children}</span>
    </p>
  )
}

function SystemRow({
  body,
  open,
  onToggle,
}: {
  body: Extract<EntryBody, { kind: 'system' }>
  open: boolean
  onToggle: () => void
}) {
  if (!body.details || Object.keys(body.details).length === 0) return <Notice level={body.level}>{body.text}</Notice>
  return (
    <Disclosure open={open} onToggle={onToggle} summary={<Notice level={body.level}>{body.text}</Notice>}>
      <Code label="Details" text={pretty(body.details)} />
    </Disclosure>
  )
}

export function pretty(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value, null, 2) ?? '')
}
