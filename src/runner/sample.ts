/**
 * What the processes below the runner use, from /proc: CPU time of living ones and of those that were waited for, and
 * the peak of their resident memory together. Where there is no /proc both are absent.
 */
import { readdirSync, readFileSync } from 'node:fs'

export const SAMPLE_EVERY_MS = 1000
/** The first samples, so that a short command is seen too. */
const FIRST_SAMPLES_MS = [50, 200, 500]
/** /proc counts time in this unit on every Linux, whatever the kernel's own tick. */
const TICKS_PER_SECOND = 100

export type Sampled = { cpu_seconds?: number; peak_memory_bytes?: number }
export type Sampler = { now(): Sampled; close(): void }

export function makeSampler(pid: number = process.pid): Sampler {
  let cpu_ticks = 0
  let peak = 0

  function sample(): void {
    const root = statOf(pid)
    if (root === null) return
    const below = descendants(pid)
    const living = below.reduce((sum, one) => sum + one.own_ticks + one.waited_ticks, 0)
    cpu_ticks = Math.max(cpu_ticks, root.waited_ticks + living)
    peak = Math.max(
      peak,
      below.reduce((sum, one) => sum + residentBytes(one.pid), 0),
    )
  }

  const first = FIRST_SAMPLES_MS.map((ms) => setTimeout(sample, ms).unref())
  const timer = setInterval(sample, SAMPLE_EVERY_MS).unref()
  return {
    now() {
      sample()
      if (statOf(pid) === null) return {}
      return { cpu_seconds: cpu_ticks / TICKS_PER_SECOND, ...(peak > 0 ? { peak_memory_bytes: peak } : {}) }
    },
    close() {
      clearInterval(timer)
      for (const one of first) clearTimeout(one)
    },
  }
}

type Stat = { pid: number; own_ticks: number; waited_ticks: number }

/** Every living process whose parent, or parent's parent, … is `pid`. */
function descendants(pid: number): Stat[] {
  const found: Stat[] = []
  const open = [pid]
  const seen = new Set(open)
  for (let parent = open.pop(); parent !== undefined; parent = open.pop()) {
    for (const child of childrenOf(parent)) {
      if (seen.has(child)) continue
      seen.add(child)
      open.push(child)
      const stat = statOf(child)
      if (stat !== null) found.push(stat)
    }
  }
  return found
}

/** A child hangs on the thread that forked it, which in many runtimes is not the main one. */
function childrenOf(pid: number): number[] {
  return threadsOf(pid).flatMap((thread) =>
    (read(`/proc/${pid}/task/${thread}/children`) ?? '')
      .split(' ')
      .filter((text) => text !== '')
      .map(Number),
  )
}

function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`)
  } catch {
    return []
  }
}

function statOf(pid: number): Stat | null {
  const text = read(`/proc/${pid}/stat`)
  if (text === null) return null
  // The name in parentheses may hold anything; utime is the 12th field after it.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const ticks = (at: number) => Number(fields[at] ?? 0)
  return { pid, own_ticks: ticks(11) + ticks(12), waited_ticks: ticks(13) + ticks(14) }
}

function residentBytes(pid: number): number {
  const kilobytes = /^VmRSS:\s+(\d+) kB/m.exec(read(`/proc/${pid}/status`) ?? '')?.[1]
  return kilobytes === undefined ? 0 : Number(kilobytes) * 1024
}

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}
