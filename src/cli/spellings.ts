/**
 * Other ways to write a command, put into ours before anything is parsed: `help run list` is `run list --help`, what Oz
 * calls its debug info is what `doctor` finds, and Oz's first announcement wrote `oz auth login` and
 * `oz run --env ENVIRONMENT --task PROMPT`.
 */
const ANNOUNCED: Record<string, string> = { '--task': '--prompt', '--env': '--environment' }

/** `isCommand`: whether a word is a command of its own. */
export function spellOut(args: string[], isCommand: (word: string) => boolean): string[] {
  const [first, second] = args
  if (first === '--dump-debug-info') return ['doctor', ...args.slice(1)]
  if (first === 'help') return [...args.slice(1), '--help']
  if (first === 'auth' && (second === 'login' || second === 'logout')) return args.slice(1)
  const at = args.findIndex(isCommand)
  const asked = args.slice(at + 1)
  if (args[at] !== 'run' || !asked[0]?.startsWith('-') || !asked.some((arg) => nameOf(arg) === '--task')) return args
  const options = asked.map((arg) => (ANNOUNCED[nameOf(arg)] ?? nameOf(arg)) + arg.slice(nameOf(arg).length))
  return [...args.slice(0, at), 'agent', 'run-cloud', ...options]
}

/** `--task` of `--task` and of `--task=PROMPT`. */
const nameOf = (arg: string): string => /^--[^=]*/.exec(arg)?.[0] ?? ''
