/** Asks a person at the terminal. */
import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import type { Context } from './context.ts'
import { CommandFailure } from './exits.ts'

/** For something that must not be seen. */
export function askSecret(context: Context, question: string): Promise<string> {
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input: context.stdin, output: silent, terminal: true })
  context.out.note(question)
  return new Promise((resolve, reject) => {
    lines.on('SIGINT', () => lines.close())
    lines.on('close', () => reject(new CommandFailure('interrupted', 'No key was given.')))
    lines.question('', (answer) => {
      resolve(answer)
      lines.close()
    })
  })
}

/** True for yes; anything else is no. */
export async function askYes(context: Context, question: string): Promise<boolean> {
  return /^y(es)?$/i.test((await askLine(context, `${question} [y/N]`)).trim())
}

/** What is typed until Enter; nothing where it is broken off. */
export function askLine(context: Context, question: string): Promise<string> {
  const lines = createInterface({
    input: context.stdin,
    output: new Writable({ write: (_chunk, _encoding, done) => done() }),
  })
  context.out.note(question)
  return new Promise((resolve) => {
    lines.on('close', () => resolve(''))
    lines.on('SIGINT', () => lines.close())
    lines.question('', (answer) => {
      resolve(answer)
      lines.close()
    })
  })
}
