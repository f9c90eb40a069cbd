import { lazy, Suspense } from 'react'

const Markdown = lazy(() => import('./markdown.tsx'))

/** Text that still grows is cut at its last finished block, so that only the rest is parsed again with each delta. */
export function Prose({ text, grows }: { text: string; grows?: boolean }) {
  const [settled, rest] = grows ? splitSettled(text) : [text, '']
  return (
    <Suspense fallback={<div className="prose whitespace-pre-wrap">{text}</div>}>
      <div className="prose">
        {settled && <Markdown text={settled} />}
        {rest && <Markdown text={rest} />}
      </div>
    </Suspense>
  )
}

/** At the last blank line that is not inside a code fence. */
export function splitSettled(text: string): [string, string] {
  for (let at = text.lastIndexOf('\n\n'); at > 0; at = text.lastIndexOf('\n\n', at - 1)) {
    const settled = text.slice(0, at)
    if ((settled.match(/^\s*(```|~~~)/gm)?.length ?? 0) % 2 === 0) return [settled, text.slice(at)]
  }
  return ['', text]
}
