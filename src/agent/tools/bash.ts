import { z } from 'zod'
import { type CommandEnd, FLOOD_BYTES_MAX, shellPath } from './shell.ts'
import { defineTool } from './tool.ts'

const timeout_s_default = 120
const timeout_s_max = 1800

export const bash = defineTool({
  name: 'bash',
  description:
    'Run a shell command in the workspace folder and get its output (stdout and stderr together) and exit code. ' +
    'Every call starts anew in the workspace: a cd or a variable does not last. There is no input; use options that ' +
    'do not ask. Long output is cut in the middle.',
  kind: 'execute',
  asks: true,
  input: z.object({
    command: z.string().min(1),
    timeout_s: z
      .number()
      .int()
      .positive()
      .max(timeout_s_max)
      .default(timeout_s_default)
      .describe('Seconds after which the command is ended.'),
  }),
  title: ({ command }) => command,
  async run({ command, timeout_s }, { cwd, env, shells, signal }) {
    const ended = await shells.run({
      argv: [shellPath(), '-c', command],
      cwd,
      env,
      timeout_ms: timeout_s * 1000,
      signal,
    })
    const { output, exit_code } = ended
    const text = [output.trimEnd(), note(ended, timeout_s)].filter((part) => part !== '').join('\n')
    return { text, exit_code, failed: exit_code !== 0 || ended.end !== 'exited' }
  },
})

function note({ end, exit_code, output }: CommandEnd, timeout_s: number): string {
  switch (end) {
    case 'timed_out':
      return `[The command was ended after ${timeout_s} s. Give a larger timeout_s, or start it in the background.]`
    case 'flooded':
      return `[The command was ended: it wrote more than ${FLOOD_BYTES_MAX / 1024 / 1024} MB. Filter its output.]`
    case 'cancelled':
      return '[The command was ended: the turn was cancelled.]'
    case 'exited':
      if (exit_code !== 0) return `[exit code ${exit_code}]`
      return output.trim() === '' ? '[no output, exit code 0]' : ''
  }
}
