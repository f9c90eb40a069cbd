/** A loop that takes a step when it is woken, and at least once every `poll_ms`; never two steps at a time. */
import type { Logger } from 'pino'

export type PollLoop = ReturnType<typeof pollLoop>

export type PollOptions = {
  name: string
  log: Logger
  poll_ms: number | (() => number)
  /** Wakes that come within this time of a step are answered by one further step. */
  gather_ms: number | (() => number)
  step(): Promise<void>
}

export function pollLoop(options: PollOptions) {
  const ms = (given: number | (() => number)) => (typeof given === 'number' ? given : given())
  const gather = () => ms(options.gather_ms)
  let closed = false
  let running: Promise<void> | null = null
  let timer: NodeJS.Timeout | null = null
  let due = 0
  let stepped_at = 0

  function schedule(ms: number): void {
    const at = Date.now() + ms
    if (closed || (timer && due <= at)) return
    if (timer) clearTimeout(timer)
    due = at
    timer = setTimeout(() => {
      timer = null
      if (running) schedule(gather())
      else void run()
    }, ms)
  }

  function run(): Promise<void> {
    running ??= options
      .step()
      .catch((error: unknown) => options.log.warn({ err: error, loop: options.name }, 'loop.step_failed'))
      .finally(() => {
        running = null
        stepped_at = Date.now()
        schedule(ms(options.poll_ms))
      })
    return running
  }

  schedule(0)
  return {
    wake: (): void => schedule(Math.max(0, gather() - (Date.now() - stepped_at))),
    /** A step that began after this call has ended. */
    async step(): Promise<void> {
      await running
      await run()
    },
    async close(): Promise<void> {
      closed = true
      if (timer) clearTimeout(timer)
      await running
    },
  }
}
