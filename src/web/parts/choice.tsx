type ChoiceProps = {
  id: string
  label: string
  value: string
  /** Values with their words. A value that is not among them is shown as it is. */
  options: readonly (readonly [value: string, words: string])[]
  onChange: (value: string) => void
  hint?: string
  wrong?: string | undefined
}

/** A labelled list to choose one of. */
export function Choice({ id, label, value, options, onChange, hint, wrong }: ChoiceProps) {
  const known = options.some(([one]) => one === value)
  return (
    <div className="flex min-w-0 flex-col gap-1">
      <label htmlFor={id} className="font-medium">
        {label}
      </label>
      <select
        id={id}
        className="field"
        value={value}
        onChange={(event) => onChange(event.target.value)}
        aria-invalid={wrong ? true : undefined}
        aria-describedby={hint || wrong ? `${id}-hint` : undefined}
      >
        {options.map(([one, words]) => (
          <option key={one} value={one}>
            {words}
          </option>
        ))}
        {!known && <option value={value}>{value}</option>}
      </select>
      {(hint || wrong) && (
        <p id={`${id}-hint`} className={`text-sm ${wrong ? 'text-failed' : 'text-soft'}`}>
          {wrong ?? hint}
        </p>
      )}
    </div>
  )
}
