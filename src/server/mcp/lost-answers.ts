/**
 * Answers that did not arrive. What they gave is given back at once; where that fails, as it does while the database is
 * away, it is tried again until it is done, and before anything that takes the agent for having read it. A server that
 * dies meanwhile forgets it.
 */
export type LostAnswers = ReturnType<typeof lostAnswers>

/** Between two tries, in milliseconds. */
const AGAIN_MS = 1_000

export function lostAnswers(giveBack: (execution_id: string, call_key: string) => Promise<void>) {
  const owed = new Map<string, Set<string>>()

  async function pay(execution_id: string, call_key: string): Promise<void> {
    await giveBack(execution_id, call_key)
    const keys = owed.get(execution_id)
    if (keys?.delete(call_key) && keys.size === 0) owed.delete(execution_id)
  }

  function again(execution_id: string, call_key: string): void {
    setTimeout(() => {
      if (owed.get(execution_id)?.has(call_key)) pay(execution_id, call_key).catch(() => again(execution_id, call_key))
    }, AGAIN_MS).unref()
  }

  return {
    /** Rejects where it could not be given back yet. */
    async lose(execution_id: string, call_key: string): Promise<void> {
      owed.set(execution_id, (owed.get(execution_id) ?? new Set()).add(call_key))
      try {
        await pay(execution_id, call_key)
      } catch (cause) {
        again(execution_id, call_key)
        throw cause
      }
    },
    /** Rejects as long as something is owed. */
    async settle(execution_id: string): Promise<void> {
      for (const call_key of [...(owed.get(execution_id) ?? [])]) await pay(execution_id, call_key)
    },
  }
}
