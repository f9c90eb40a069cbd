/** A tool call: one line that says what was done and how it went; opened, what went in, what came out, what changed. */
import {
  CircleCheck,
  CircleX,
  FilePen,
  Files,
  LoaderCircle,
  type LucideIcon,
  MonitorCog,
  Plug,
  ScanEye,
  Search,
  ShieldX,
  Sparkles,
  SquareTerminal,
} from 'lucide-react'
import { z } from 'zod'
import type { Entry, EntryBody, ToolCategory } from '../../contract/index.ts'
import { sentenceOf, Waiting } from '../parts/faces.tsx'
import { Code, Diff, Disclosure } from './blocks.tsx'
import { pretty, useWhole } from './row.tsx'

type ToolProps = {
  call: Entry | undefined
  result: Entry | undefined
  run_id: string
  ended: boolean
  open: boolean
  onToggle: () => void
}
type Call = Extract<EntryBody, { kind: 'tool_call' }>
type Result = Extract<EntryBody, { kind: 'tool_result' }>

/** The input of a shell tool that says nothing but what to run. */
const Command = z.strictObject({ command: z.string() })

const ICONS: Record<ToolCategory, LucideIcon> = {
  command: SquareTerminal,
  files: FilePen,
  search: Search,
  integration: Plug,
  documents: Files,
  computer: MonitorCog,
  review: ScanEye,
  skill: Sparkles,
}

export function ToolRow({ call, result, run_id, ended, open, onToggle }: ToolProps) {
  const wholeCall = useWhole(run_id, call, open)
  const wholeResult = useWhole(run_id, result, open)
  const called = wholeCall.body?.kind === 'tool_call' ? wholeCall.body : undefined
  const answered = wholeResult.body?.kind === 'tool_result' ? wholeResult.body : undefined
  const error = wholeCall.error ?? wholeResult.error
  const Icon = called ? ICONS[called.category] : SquareTerminal
  return (
    <Disclosure
      open={open}
      onToggle={onToggle}
      summary={
        <span className="flex min-w-0 flex-1 items-center gap-1.5">
          <Icon aria-hidden className="size-4 shrink-0 text-soft" />
          <span className={`truncate ${called?.category === 'command' ? 'font-mono text-[0.875rem]' : ''}`}>
            {called ? called.title || called.name : 'Result of an earlier call'}
          </span>
          <Outcome result={answered} ended={ended} />
        </span>
      }
    >
      {error && (
        <p role="alert" className="text-failed">
          {sentenceOf(error)}
        </p>
      )}
      {(wholeCall.pending || wholeResult.pending) && <Waiting>Loading the whole entry…</Waiting>}
      {called && <Input call={called} />}
      {answered && <Answer result={answered} />}
      {!answered && <p className="text-soft">{ended ? 'It ended without a result.' : 'No result yet.'}</p>}
    </Disclosure>
  )
}

function Input({ call }: { call: Call }) {
  if (call.input === undefined)
    return call.paths?.length ? <Code label={`${call.name}, paths`} text={call.paths.join('\n')} /> : null
  const command = Command.safeParse(call.input)
  if (command.success) return <Code label={`${call.name}, command`} text={command.data.command} />
  return <Code label={`${call.name}, input`} text={pretty(call.input)} />
}

function Answer({ result }: { result: Result }) {
  return (
    <>
      {result.changes?.map((change) => (
        <Diff key={change.path} change={change} />
      ))}
      {result.output !== '' && <Code label="Output" text={result.output} />}
      {result.output === '' && !result.changes?.length && <p className="text-soft">It gave no output.</p>}
    </>
  )
}

function Outcome({ result, ended }: { result: Result | undefined; ended: boolean }) {
  const className = 'ml-auto inline-flex shrink-0 items-center gap-1 pl-2 text-sm'
  if (!result) {
    if (ended) return <span className={`${className} text-soft`}>no result</span>
    return (
      <span className={`${className} text-working`}>
        <LoaderCircle aria-hidden className="size-3.5 animate-spin" />
        running
      </span>
    )
  }
  const exit = result.exit_code === undefined || result.exit_code === 0 ? '' : ` (exit code ${result.exit_code})`
  switch (result.status) {
    case 'completed':
      return (
        <span className={`${className} text-succeeded`}>
          <CircleCheck aria-hidden className="size-3.5" />
          done{exit}
        </span>
      )
    case 'failed':
      return (
        <span className={`${className} text-failed`}>
          <CircleX aria-hidden className="size-3.5" />
          failed{exit}
        </span>
      )
    case 'denied':
      return (
        <span className={`${className} text-needs`}>
          <ShieldX aria-hidden className="size-3.5" />
          denied
        </span>
      )
  }
}
