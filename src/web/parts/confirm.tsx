import { type ReactNode, useEffect, useRef } from 'react'

type ConfirmProps = {
  open: boolean
  title: string
  children: ReactNode
  yes: string
  no: string
  onYes: () => void
  onClose: () => void
}

/** A modal question whose safe answer has the focus. */
export function Confirm({ open, title, children, yes, no, onYes, onClose }: ConfirmProps) {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    if (open) dialog.current?.showModal()
    else dialog.current?.close()
  }, [open])
  return (
    <dialog
      ref={dialog}
      onClose={onClose}
      aria-labelledby="confirm-title"
      className="w-[calc(100%-2rem)] max-w-md rounded-xl border border-line bg-page p-5"
    >
      <h2 id="confirm-title" className="text-lg font-semibold">
        {title}
      </h2>
      <div className="mt-2 text-soft">{children}</div>
      <div className="mt-5 flex flex-wrap justify-end gap-2">
        <button type="button" className="button" onClick={onClose}>
          {no}
        </button>
        <button type="button" className="button button-danger" onClick={onYes}>
          {yes}
        </button>
      </div>
    </dialog>
  )
}
