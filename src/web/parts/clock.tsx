/** Moments and lengths of time that stay true while they are shown. One clock ticks for all of them. */
import { createContext, type ReactNode, use, useEffect, useState } from 'react'
import type { Run } from '../../contract/index.ts'
import { absoluteWords, isTimed, lengthWords, relativeWords } from '../time.ts'

const TICK_MS = 1000
const Now = createContext(0)

export function Clock({ children }: { children: ReactNode }) {
  const [now, setNow] = useState(() => Date.now())
  useEffect(() => {
    const timer = setInterval(() => {
      if (!document.hidden) setNow(Date.now())
    }, TICK_MS)
    return () => clearInterval(timer)
  }, [])
  return <Now value={now}>{children}</Now>
}

export function When({ at }: { at: string }) {
  const now = use(Now)
  const moment = Date.parse(at)
  return (
    <time dateTime={at} title={absoluteWords(moment)} className="whitespace-nowrap">
      {relativeWords(moment, now)}
    </time>
  )
}

export function Worked({ run }: { run: Run }) {
  return isTimed(run) && run.started_at ? <Length from={run.started_at} to={run.ended_at} /> : null
}

/** From one moment to another, or to now: then in whole seconds, as it ticks. */
export function Length({ from, to }: { from: string; to: string | null }) {
  const now = use(Now)
  const ms = Math.max(0, (to === null ? now : Date.parse(to)) - Date.parse(from))
  return (
    <span className="whitespace-nowrap tabular-nums">
      {lengthWords(to === null ? Math.floor(ms / TICK_MS) * TICK_MS || TICK_MS : ms)}
    </span>
  )
}
