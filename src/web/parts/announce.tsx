/** The page's one polite live region. It tells changes of state, never text as it streams. */
import { createContext, type ReactNode, use, useCallback, useState } from 'react'

const Announce = createContext<(words: string) => void>(() => {})

export function Announcer({ children }: { children: ReactNode }) {
  const [words, setWords] = useState('')
  const announce = useCallback((next: string) => setWords(next), [])
  return (
    <Announce value={announce}>
      {children}
      <div aria-live="polite" role="status" className="sr-only" data-testid="announcer">
        {words}
      </div>
    </Announce>
  )
}

export const useAnnounce = () => use(Announce)
