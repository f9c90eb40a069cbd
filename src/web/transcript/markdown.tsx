/**
 * What an agent wrote. It is not trusted: no HTML of its own, nothing fetched from elsewhere, links tell nothing
 * of us.
 */
import { memo } from 'react'
import ReactMarkdown, { type Components } from 'react-markdown'
import rehypeSanitize from 'rehype-sanitize'
import remarkGfm from 'remark-gfm'

const components: Components = {
  a: ({ href, children }) => (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow">
      {children}
    </a>
  ),
  // An image elsewhere would tell its host who reads this.
  img: ({ alt, src }) => (
    <span className="text-soft">
      [image{alt ? `: ${alt}` : ''}
      {typeof src === 'string' && /^https?:/.test(src) ? ` at ${src}` : ''}]
    </span>
  ),
  input: ({ checked }) => (
    <span role="img" aria-label={checked ? 'done' : 'to do'}>
      {checked ? '☑ ' : '☐ '}
    </span>
  ),
  // Their marks stand where their text begins.
  ul: ({ children }) => <ul dir="auto">{children}</ul>,
  ol: ({ children, start }) => (
    <ol dir="auto" start={start}>
      {children}
    </ol>
  ),
  // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
  pre: ({ children }) => <pre tabIndex={0}>{children}</pre>,
}

const Markdown = memo(function Markdown({ text }: { text: string }) {
  return (
    <ReactMarkdown remarkPlugins={[remarkGfm]} rehypePlugins={[rehypeSanitize]} components={components}>
      {text}
    </ReactMarkdown>
  )
})
export default Markdown
