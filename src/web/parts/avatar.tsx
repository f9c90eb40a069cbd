import { avatarOf } from '../data/tree.ts'

/** A letter and a colour that belong to a name; for the eye alone, beside the name itself. */
export function Avatar({ name, className = 'size-5' }: { name: string; className?: string }) {
  const { letter, colour } = avatarOf(name)
  return (
    <span
      aria-hidden
      className={`avatar-${colour} ${className} grid shrink-0 place-items-center rounded-full text-xs leading-none font-semibold`}
    >
      {letter}
    </span>
  )
}
