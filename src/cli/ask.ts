/** Asks a person at the terminal for something that must not be seen. */
import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import type { Context } from './context.ts'
import { CommandFailure } from './exits.ts'

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
