import { CircleAlert } from 'lucide-react'

type FieldProps = {
  id: string
  label: string
  value: string
  onChange: (value: string) => void
  hint: string
  wrong?: string | undefined
  optional?: boolean
  /** More than one row makes it a text area. */
  rows?: number
  code?: boolean
  inputMode?: 'decimal'
}

export function Field({ id, label, value, onChange, hint, wrong, optional, rows, code, inputMode }: FieldProps) {
  const shared = {
    id,
    value,
    'aria-invalid': wrong ? true : undefined,
    'aria-describedby': `${id}-hint ${id}-wrong`,
    'aria-required': !optional,
    className: `field ${code ? 'font-mono text-sm' : ''}`,
    spellCheck: !code,
    autoComplete: 'off',
  }
  return (
    <div className="flex min-w-0 flex-col gap-1">
      <label htmlFor={id} className="font-medium">
        {label}
        {optional && <span className="font-normal text-soft"> (optional)</span>}
      </label>
      {rows === undefined ? (
        <input {...shared} type="text" inputMode={inputMode} onChange={(event) => onChange(event.target.value)} />
      ) : (
        <textarea {...shared} rows={rows} onChange={(event) => onChange(event.target.value)} />
      )}
      <p id={`${id}-wrong`} role="alert" className="text-sm text-failed empty:hidden">
        {wrong && (
          <span className="flex items-start gap-1.5">
            <CircleAlert aria-hidden className="mt-0.5 size-4 shrink-0" />
            {wrong}
          </span>
        )}
      </p>
      <p id={`${id}-hint`} className="text-sm text-soft">
        {hint}
      </p>
    </div>
  )
}
