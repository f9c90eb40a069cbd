/** Numbers of a sample, and how they are written down. */

export type Figure = {
  name: string
  value: string
  /** What was promised, and whether it held in this run. */
  promise?: string
  held?: boolean
}

export function quantile(sample: number[], q: number): number {
  const sorted = [...sample].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN
}

export const median = (sample: number[]): number => quantile(sample, 0.5)

export const ms = (value: number): string => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`
export const mebibytes = (bytes: number): string => `${Math.round(bytes / 1024 / 1024)} MiB`
export const times = (ratio: number): string => `${ratio.toFixed(2)}×`
export const percent = (share: number): string => `${(share * 100).toFixed(1)}%`
