/** What changed between two texts, by lines. */

export type DiffLine = { kind: 'same' | 'added' | 'removed'; text: string } | { kind: 'skipped'; lines: number }

/** Unchanged lines shown around a change. */
const CONTEXT_LINES = 3
/** Above this many cells the middle is shown as replaced, so that the page never stalls. */
const CELLS_MAX = 1_000_000

export function diffLines(old_text: string | null, new_text: string): DiffLine[] {
  const before = linesOf(old_text ?? '')
  const after = linesOf(new_text)
  let start = 0
  while (start < before.length && start < after.length && before[start] === after[start]) start++
  let tail = 0
  while (tail < before.length - start && tail < after.length - start && before.at(-1 - tail) === after.at(-1 - tail))
    tail++
  const same = (text: string): DiffLine => ({ kind: 'same', text })
  return fold([
    ...before.slice(0, start).map(same),
    ...diffMiddle(before.slice(start, before.length - tail), after.slice(start, after.length - tail)),
    ...before.slice(before.length - tail).map(same),
  ])
}

const linesOf = (text: string): string[] => (text === '' ? [] : text.replace(/\n$/, '').split('\n'))

function diffMiddle(before: string[], after: string[]): DiffLine[] {
  const removed = (text: string): DiffLine => ({ kind: 'removed', text })
  const added = (text: string): DiffLine => ({ kind: 'added', text })
  if (before.length * after.length > CELLS_MAX) return [...before.map(removed), ...after.map(added)]
  const width = after.length + 1
  // Longest common subsequence of what remains, from each pair of positions on.
  const longest = new Uint32Array((before.length + 1) * width)
  const at = (i: number, j: number) => longest[i * width + j] ?? 0
  for (let i = before.length - 1; i >= 0; i--) {
    for (let j = after.length - 1; j >= 0; j--) {
      longest[i * width + j] = before[i] === after[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1))
    }
  }
  const lines: DiffLine[] = []
  let i = 0
  let j = 0
  while (i < before.length || j < after.length) {
    const [old_line, new_line] = [before[i], after[j]]
    if (old_line !== undefined && old_line === new_line) {
      lines.push({ kind: 'same', text: old_line })
      i++
      j++
    } else if (old_line !== undefined && (new_line === undefined || at(i + 1, j) >= at(i, j + 1))) {
      lines.push(removed(old_line))
      i++
    } else if (new_line !== undefined) {
      lines.push(added(new_line))
      j++
    }
  }
  return lines
}

/** Long stretches without a change become one mark. */
function fold(lines: DiffLine[]): DiffLine[] {
  const near = new Set<number>()
  lines.forEach((line, index) => {
    if (line.kind === 'same') return
    for (let i = index - CONTEXT_LINES; i <= index + CONTEXT_LINES; i++) near.add(i)
  })
  const folded: DiffLine[] = []
  lines.forEach((line, index) => {
    const last = folded.at(-1)
    if (near.has(index)) folded.push(line)
    else if (last?.kind === 'skipped') last.lines++
    else folded.push({ kind: 'skipped', lines: 1 })
  })
  return folded
}
