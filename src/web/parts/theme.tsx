import { Monitor, Moon, Sun } from 'lucide-react'
import { useState } from 'react'

const THEMES = ['system', 'light', 'dark'] as const
type Theme = (typeof THEMES)[number]

const LOOK = {
  system: { Icon: Monitor, word: 'system' },
  light: { Icon: Sun, word: 'light' },
  dark: { Icon: Moon, word: 'dark' },
}

export function ThemeButton() {
  const [theme, setTheme] = useState<Theme>(() => {
    const chosen = document.documentElement.dataset.theme
    return chosen === 'light' || chosen === 'dark' ? chosen : 'system'
  })
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? 'system'
  const { Icon, word } = LOOK[theme]
  const choose = () => {
    if (next === 'system') delete document.documentElement.dataset.theme
    else document.documentElement.dataset.theme = next
    remember(next)
    setTheme(next)
  }
  const label = `Theme: ${word}. Change to ${LOOK[next].word}.`
  return (
    <button
      type="button"
      onClick={choose}
      aria-label={label}
      title={label}
      className="grid size-9 pointer-coarse:size-11 place-items-center rounded-lg hover:bg-raised"
    >
      <Icon aria-hidden className="size-4" />
    </button>
  )
}

/** Storage may be forbidden; then the choice holds until the page is left. prelude.js reads it. */
function remember(theme: Theme): void {
  try {
    if (theme === 'system') localStorage.removeItem('baton.theme')
    else localStorage.setItem('baton.theme', theme)
  } catch {}
}
