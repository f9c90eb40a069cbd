/** Terminal output as pieces of text with class names: colours and weight are kept, every other control is dropped. */

export type Piece = { text: string; classes: string }

const COLOURS = ['black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white']

// CSI sequences, OSC strings (ended by BEL or ST), and two-character escapes.
const ESCAPE = /\x1b(?:\[([0-9;:?<=>]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\|$)|[@-Z\\^_]|[ -/][0-~])/g
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f]/g

type Pen = { colour: string; bold: boolean; dim: boolean; italic: boolean; underline: boolean }
const PLAIN: Pen = { colour: '', bold: false, dim: false, italic: false, underline: false }

export function parseAnsi(output: string): Piece[] {
  const text = settleReturns(output)
  const pieces: Piece[] = []
  let pen = PLAIN
  let end = 0
  for (const match of text.matchAll(ESCAPE)) {
    addPiece(pieces, text.slice(end, match.index), pen)
    end = match.index + match[0].length
    if (match[2] === 'm') pen = penAfter(pen, match[1] ?? '')
  }
  addPiece(pieces, text.slice(end), pen)
  return pieces
}

/** A carriage return writes its line again; what the terminal would show in the end is what stays. */
function settleReturns(text: string): string {
  if (!text.includes('\r')) return text
  return text
    .replaceAll('\r\n', '\n')
    .split('\n')
    .map((line) => line.split('\r').findLast((part) => part !== '') ?? '')
    .join('\n')
}

function addPiece(pieces: Piece[], raw: string, pen: Pen): void {
  const text = raw.replace(CONTROLS, '')
  if (text === '') return
  const classes = [
    pen.colour && `ansi-${pen.colour}`,
    pen.bold && 'ansi-bold',
    pen.dim && 'ansi-dim',
    pen.italic && 'ansi-italic',
    pen.underline && 'ansi-underline',
  ]
    .filter(Boolean)
    .join(' ')
  const last = pieces.at(-1)
  if (last?.classes === classes) last.text += text
  else pieces.push({ text, classes })
}

function penAfter(pen: Pen, parameters: string): Pen {
  const codes = parameters.split(/[;:]/).map(Number)
  let next = pen
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i] ?? 0
    if (code === 38 || code === 48) {
      const colour = codes[i + 1] === 5 ? COLOURS[(codes[i + 2] ?? 99) % 8] : undefined
      if (code === 38) next = { ...next, colour: colour !== undefined && (codes[i + 2] ?? 99) < 16 ? colour : '' }
      i += codes[i + 1] === 5 ? 2 : 4
    } else next = penWith(next, code)
  }
  return next
}

function penWith(pen: Pen, code: number): Pen {
  if (code === 0) return PLAIN
  if (code === 1) return { ...pen, bold: true }
  if (code === 2) return { ...pen, dim: true }
  if (code === 3) return { ...pen, italic: true }
  if (code === 4) return { ...pen, underline: true }
  if (code === 22) return { ...pen, bold: false, dim: false }
  if (code === 23) return { ...pen, italic: false }
  if (code === 24) return { ...pen, underline: false }
  if (code === 39) return { ...pen, colour: '' }
  const colour = (code >= 30 && code <= 37) || (code >= 90 && code <= 97) ? COLOURS[code % 10] : undefined
  return colour === undefined ? pen : { ...pen, colour }
}
