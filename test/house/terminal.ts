/**
 * What a terminal shows of what was written to it, so far as the command line uses one. A character beyond the last
 * column goes to the next row, but only when it comes (as in xterm), and nobody moves up beyond the top of the screen.
 * Throws at what a terminal would not understand, such as half an escape sequence.
 */
export type Row = {
  text: string /** It goes on in the next row. */
  wraps: boolean /** Ended in a colour. */
  coloured: boolean
}

/** Everything that scrolled away, and the screen. */
export function rowsOf(written: string, { columns, rows }: { columns: number; rows: number }): Row[] {
  const shown: Row[] = [empty()]
  let [at, column] = [0, 0]
  let coloured = false
  const row = (place = at): Row => {
    while (shown.length <= place) shown.push(empty())
    return shown[place] as Row
  }
  const put = (char: string) => {
    if (column === columns) {
      row().wraps = true
      at += 1
      column = 0
    }
    const one = row()
    one.text = one.text.padEnd(column).slice(0, column) + char + one.text.slice(column + 1)
    column += 1
  }
  const obey = (amount: string, letter: string) => {
    switch (letter) {
      case 'A':
        at = Math.max(at - Number(amount || 1), 0, shown.length - rows)
        return
      case 'J':
        shown.length = at + 1
        row().text = row().text.slice(0, column)
        return
      case 'K':
        row().text = row().text.slice(0, column)
        return
      case 'm':
        coloured = amount !== '0'
        return
      default:
        throw new Error(`A terminal is told to ${letter}: ${JSON.stringify(written.slice(-80))}`)
    }
  }
  for (const [part, amount = '', letter] of written.matchAll(/\x1b\[([\d;]*)([A-Za-z])|[\s\S]/gu)) {
    if (letter !== undefined) obey(amount, letter)
    else if (part === '\r') column = 0
    else if (part === '\n') {
      row().coloured ||= coloured
      at += 1
      row()
    } else if (part === '\x1b') throw new Error('An escape sequence is cut.')
    else put(part)
  }
  return shown
}

const empty = (): Row => ({ text: '', wraps: false, coloured: false })
