/**
 * What an execution used, for a harness that keeps the tokens of each model call in its session but tells less at the
 * end of a turn. Asked at the end of each turn, and during one at most every `EVERY_MS`.
 */
import type { Usage } from '../../contract/index.ts'

/** All that a session has used so far; null where that cannot be read. */
export type ReadSessionUsage = (session_id: string) => Promise<Usage | null>

export type SessionUsage = {
  /** What was used since the session was opened here; null where that is not known. */
  now(): Promise<Usage | null>
  /** The turn goes on. */
  soon(): void
}

const EVERY_MS = 10_000

/** Starts where the session stands now: what an earlier execution used in it is not this one's. */
export async function openSessionUsage(
  read: ReadSessionUsage,
  session_id: string,
  onUsage: (usage: Usage) => void,
): Promise<SessionUsage> {
  const before = await read(session_id).catch(() => null)
  let asked_at = performance.now()

  async function now(): Promise<Usage | null> {
    const total = before === null ? null : await read(session_id).catch(() => null)
    return total === null || before === null ? null : since(total, before)
  }

  return {
    now,
    soon() {
      if (performance.now() - asked_at < EVERY_MS) return
      asked_at = performance.now()
      void now().then((usage) => {
        if (usage !== null) onUsage(usage)
      })
    },
  }
}

const since = (total: Usage, before: Usage): Usage => ({
  ...total,
  input_tokens: Math.max(0, total.input_tokens - before.input_tokens),
  output_tokens: Math.max(0, total.output_tokens - before.output_tokens),
  cache_read_tokens: Math.max(0, total.cache_read_tokens - before.cache_read_tokens),
  cache_write_tokens: Math.max(0, total.cache_write_tokens - before.cache_write_tokens),
  ...(total.cost_usd === undefined ? {} : { cost_usd: Math.max(0, total.cost_usd - (before.cost_usd ?? 0)) }),
})
