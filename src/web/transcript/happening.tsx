/** Rows of what happened around a run: a child was born, its state changed, a message came or went. */
import { Link } from '@tanstack/react-router'
import { ArrowDownLeft, ArrowUpRight, GitFork } from 'lucide-react'
import { createContext, use } from 'react'
import type { TreeNode } from '../../contract/index.ts'
import type { Happening } from '../data/happenings.ts'
import { Avatar } from '../parts/avatar.tsx'
import { When } from '../parts/clock.tsx'
import { Correspondent, LetterBody } from '../parts/messages.tsx'
import { StatusIcon } from '../parts/status.tsx'
import { harnessWord, type Status } from '../words.ts'
import { Disclosure } from './blocks.tsx'

/** The runs around, by id, for their names. */
export const Relatives = createContext<ReadonlyMap<string, TreeNode>>(new Map())

/** What a change of state was, as something that is over. */
const CHANGE_WORDS: Record<Status, string> = {
  queued: 'was queued',
  starting: 'was given to a worker',
  working: 'began to work',
  waiting: 'ended its turn and waits',
  needs_you: 'needed somebody',
  succeeded: 'succeeded',
  failed: 'failed',
  cancelled: 'was cancelled',
}

type Props = { happening: Happening; run_id: string; open: boolean; onToggle: () => void }

export function HappeningRow({ happening, run_id, open, onToggle }: Props) {
  switch (happening.kind) {
    case 'born':
      return (
        <Line at={happening.at} kind="born">
          <GitFork aria-hidden className="size-4 shrink-0 text-soft" />
          <span className="shrink-0">Started</span> <Relative run_id={happening.run_id} tells />
        </Line>
      )
    case 'state':
      return (
        <Line at={happening.at} kind="state">
          <Relative run_id={happening.run_id} />
          <StatusIcon status={happening.status} className="size-4 animate-none!" />
          <span>{CHANGE_WORDS[happening.status]}</span>
        </Line>
      )
    case 'letter':
      return <LetterLine letter={happening.letter} run_id={run_id} open={open} onToggle={onToggle} />
  }
}

function Line({ at, kind, children }: { at: string; kind: string; children: React.ReactNode }) {
  return (
    <div className="my-0.5 flex min-h-8 min-w-0 flex-wrap items-center gap-x-1.5 text-sm" data-happening={kind}>
      {children}
      <span className="ml-auto text-soft">
        <When at={at} />
      </span>
    </div>
  )
}

function Relative({ run_id, tells }: { run_id: string; tells?: boolean }) {
  const node = use(Relatives).get(run_id)
  const name = node?.name ?? 'a run'
  return (
    <span className="inline-flex min-w-0 items-center gap-1.5">
      <Avatar name={name} />
      <Link to="/runs/$runId" params={{ runId: run_id }} className="inline-flex min-h-7 min-w-0 max-w-56 items-center">
        <span className="link truncate">{name}</span>
      </Link>
      {tells && node && <span className="text-soft max-sm:hidden">with {harnessWord(node.harness)}</span>}
    </span>
  )
}

type LetterProps = {
  letter: Extract<Happening, { kind: 'letter' }>['letter']
  run_id: string
  open: boolean
  onToggle: () => void
}

function LetterLine({ letter, run_id, open, onToggle }: LetterProps) {
  const incoming = letter.recipient_run_id === run_id
  const Direction = incoming ? ArrowDownLeft : ArrowUpRight
  return (
    <div className="my-1 rounded-lg border border-line px-3 py-1 text-sm" data-happening="letter">
      <div className="flex min-w-0 flex-wrap items-center gap-x-1.5 text-soft">
        <Direction aria-hidden className="size-4 shrink-0" />
        {incoming ? 'Message from' : 'Message to'}{' '}
        <Correspondent
          run_id={incoming ? letter.sender_run_id : letter.recipient_run_id}
          name={incoming ? letter.sender_name : letter.recipient_name}
        />
        {letter.urgent && <span className="text-needs">Urgent</span>}
        <span className="ml-auto">
          <When at={letter.sent_at} />
        </span>
      </div>
      <Disclosure
        open={open}
        onToggle={onToggle}
        summary={
          <span className={`min-w-0 font-medium ${open ? 'wrap-anywhere' : 'truncate'}`}>
            {letter.subject.trim() === '' ? '(no subject)' : letter.subject}
          </span>
        }
      >
        <LetterBody run_id={run_id} message_id={letter.message_id} />
      </Disclosure>
    </div>
  )
}
