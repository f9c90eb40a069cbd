import { serveAgent } from './agent.ts'

const stop = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => stop.abort())
await serveAgent({ env: process.env, stdin: process.stdin, stdout: process.stdout, signal: stop.signal })
process.exit(0)
