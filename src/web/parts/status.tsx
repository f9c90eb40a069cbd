import {
  Ban,
  CircleCheck,
  CircleDashed,
  CirclePause,
  CircleX,
  Hand,
  Hourglass,
  LoaderCircle,
  type LucideIcon,
} from 'lucide-react'
import type { Run } from '../../contract/index.ts'
import { isCancelling, runStatus, type Status, statusWord } from '../words.ts'

const LOOK: Record<Status, { Icon: LucideIcon; colour: string; turns?: boolean }> = {
  queued: { Icon: CircleDashed, colour: 'text-queued' },
  starting: { Icon: Hourglass, colour: 'text-working' },
  working: { Icon: LoaderCircle, colour: 'text-working', turns: true },
  waiting: { Icon: CirclePause, colour: 'text-queued' },
  needs_you: { Icon: Hand, colour: 'text-needs' },
  succeeded: { Icon: CircleCheck, colour: 'text-succeeded' },
  failed: { Icon: CircleX, colour: 'text-failed' },
  cancelled: { Icon: Ban, colour: 'text-queued' },
}

export function StatusIcon({ status, className = 'size-4' }: { status: Status; className?: string }) {
  const { Icon, colour, turns } = LOOK[status]
  return (
    <Icon
      aria-hidden
      className={`${className} shrink-0 ${colour} ${turns ? 'animate-[spin_2s_linear_infinite]' : ''}`}
    />
  )
}

/** An icon and a word, never a colour alone. */
export function RunStatus({ run }: { run: Run }) {
  return <StatusText status={isCancelling(run) ? 'cancelled' : runStatus(run)}>{statusWord(run)}</StatusText>
}

export function StatusText({ status, children }: { status: Status; children: string }) {
  return (
    <span className={`inline-flex items-center gap-1.5 font-medium whitespace-nowrap ${LOOK[status].colour}`}>
      <StatusIcon status={status} />
      {children}
    </span>
  )
}
