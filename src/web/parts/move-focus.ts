import type { KeyboardEvent } from 'react'

/** Moves the focus among the elements of `selector` with two arrows, Home and End. It goes around at the ends. */
export function moveFocus(event: KeyboardEvent<HTMLElement>, selector: string, arrows: Record<string, number>): void {
  const all = [...event.currentTarget.querySelectorAll<HTMLElement>(selector)]
  const at = all.findIndex((element) => element.contains(document.activeElement))
  const step = arrows[event.key]
  const next =
    event.key === 'Home' ? 0 : event.key === 'End' ? all.length - 1 : step === undefined ? undefined : at + step
  if (next === undefined || at === -1) return
  event.preventDefault()
  all[(next + all.length) % all.length]?.focus()
}
