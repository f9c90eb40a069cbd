import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { expect, test } from 'vitest'
import { makeSampler } from '../src/runner/sample.ts'

test.runIf(existsSync('/proc/self/task'))(
  'counts the CPU time of processes below the runner, living and ended, and their peak memory',
  async () => {
    const sampler = makeSampler()
    const before = sampler.now().cpu_seconds ?? 0
    const burn =
      'const a = Buffer.alloc(80e6, 1); for (const end = Date.now() + 600; Date.now() < end;);' +
      "console.log('burnt', a.length); setTimeout(() => {}, 60_000)"
    const child = spawn('/bin/sh', ['-c', '"$0" -e "$1"; true', process.execPath, burn], {
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    })
    await once(child.stdout, 'data')
    const living = sampler.now()
    expect((living.cpu_seconds ?? 0) - before).toBeGreaterThan(0.2)
    expect(living.peak_memory_bytes).toBeGreaterThan(80e6)
    process.kill(-(child.pid ?? 0), 'SIGKILL')
    child.stdout.destroy()
    await once(child, 'exit')
    const ended = sampler.now()
    expect(ended.cpu_seconds).toBeGreaterThanOrEqual(living.cpu_seconds ?? 0)
    expect(ended.peak_memory_bytes).toBeGreaterThanOrEqual(living.peak_memory_bytes ?? 0)
    sampler.close()
  },
)
