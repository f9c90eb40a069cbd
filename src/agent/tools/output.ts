/** Output of unknown length in bounded memory: its head and its tail, with a mark for the bytes between. */

export type BoundedOutput = {
  write(chunk: Buffer): void
  /** Bytes written so far. */
  bytes(): number
  text(): string
}

export function boundedOutput(head_bytes_max: number, tail_bytes_max: number): BoundedOutput {
  const head: Buffer[] = []
  let tail: Buffer[] = []
  let head_bytes = 0
  let tail_bytes = 0
  let bytes = 0
  return {
    write(chunk) {
      bytes += chunk.length
      const fits = chunk.subarray(0, head_bytes_max - head_bytes)
      if (fits.length > 0) head.push(Buffer.from(fits))
      head_bytes += fits.length
      const rest = chunk.subarray(fits.length)
      if (rest.length === 0) return
      tail.push(Buffer.from(rest.subarray(-tail_bytes_max)))
      tail_bytes += Math.min(rest.length, tail_bytes_max)
      if (tail_bytes <= 2 * tail_bytes_max) return
      tail = [Buffer.concat(tail).subarray(-tail_bytes_max)]
      tail_bytes = tail_bytes_max
    },
    bytes: () => bytes,
    text() {
      const end = Buffer.concat(tail).subarray(-tail_bytes_max)
      const missing = bytes - head_bytes - end.length
      const start = Buffer.concat(head)
      if (missing === 0) return Buffer.concat([start, end]).toString('utf8')
      return `${start.toString('utf8')}\n[… ${missing} bytes left out …]\n${end.toString('utf8')}`
    },
  }
}
