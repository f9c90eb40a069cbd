/** What a process of the command line does when it is told to end, or when nobody reads what it writes. */

/** Aborted by the first signal, with its name; the second one ends the process at once. */
export function openSignals(its: NodeJS.Process): AbortSignal {
  const stopping = new AbortController()
  let signals = 0
  const onSignal = (signal: NodeJS.Signals) => {
    if (++signals > 1) its.exit(signal === 'SIGINT' ? 130 : 143)
    stopping.abort(signal)
  }
  its.on('SIGINT', onSignal)
  its.on('SIGTERM', onSignal)
  its.on('SIGHUP', onSignal)
  for (const stream of [its.stdout, its.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') its.exit(0)
      throw error
    })
  }
  return stopping.signal
}
