/** One command, from its arguments to its exit code. */
import { z } from 'zod'
import type { Context, Input } from './context.ts'
import { CommandFailure, EXIT } from './exits.ts'
import { compileJq } from './jq.ts'
import { type Output, openOutput, type Terminal } from './output.ts'
import { type Chosen, makeProgram } from './program.ts'
import { type Environment, type Flags, OutputFormat, resolveSettings, type Settings } from './settings.ts'

export type CommandLine = {
  args: string[]
  version: string
  env: Environment
  cwd: string
  pid: number
  stdin: Input
  stdout: Terminal
  stderr: Terminal
  signal: AbortSignal
  self: string[]
}

const Globals = z.object({
  outputFormat: OutputFormat.optional(),
  json: z.boolean().optional(),
  jq: z.string().optional(),
  server: z.string().optional(),
  serverRootUrl: z.string().optional(),
  apiKey: z.string().optional(),
  configProfile: z.string().optional(),
  quiet: z.boolean().default(false),
  input: z.boolean().default(true),
  debug: z.boolean().default(false),
})
type Globals = z.infer<typeof Globals>

export async function runCommandLine(line: CommandLine): Promise<number> {
  // Until the arguments are understood, only they and the environment can say how errors are to look.
  let out = openOutput(outputOptions(line, guessGlobals(line), undefined))
  try {
    const program = makeProgram(line.version, {
      out: (text) => line.stdout.write(text),
      err: (text) => line.stderr.write(text),
    })
    const chosen =
      line.args.length === 0 ? showHelp(program.root.helpInformation(), line) : await program.choose(line.args)
    if (chosen === null) return line.args.length === 0 ? EXIT.usage : EXIT.ok
    const globals = parseGlobals(chosen)
    const settings = await resolveSettings(flagsOf(globals), line.env, line.cwd)
    const jq = globals.jq === undefined ? null : await compileJq(globals.jq)
    out = openOutput({ ...outputOptions(line, globals, settings), jq })
    const context = contextOf(line, out, settings, globals)
    const code = await chosen.module.run(context, { args: chosen.args, options: chosen.options })
    return typeof code === 'number' ? code : EXIT.ok
  } catch (error) {
    if (line.signal.aborted && !(error instanceof CommandFailure))
      return line.signal.reason === 'SIGINT' ? EXIT.interrupted : 143
    return EXIT[out.fail(error)]
  } finally {
    await out.close()
  }
}

function showHelp(text: string, line: CommandLine): null {
  line.stderr.write(text)
  return null
}

function parseGlobals(chosen: Chosen): Globals {
  const parsed = Globals.safeParse(chosen.options)
  if (parsed.success) return parsed.data
  throw new CommandFailure('usage', parsed.error.issues.map((issue) => issue.message).join('; '))
}

function guessGlobals(line: CommandLine): Globals {
  const at = line.args.findIndex((arg) => arg === '-o' || arg === '--output-format')
  const spelled = line.args.find((arg) => arg.startsWith('--output-format='))?.split('=')[1]
  const asked = OutputFormat.safeParse(
    at === -1 ? (spelled ?? line.env.BATON_OUTPUT_FORMAT ?? line.env.WARP_OUTPUT_FORMAT) : line.args[at + 1],
  )
  const json = line.args.includes('--json') || line.args.includes('--jq')
  return Globals.parse({
    debug: line.args.includes('--debug'),
    ...(json ? { json } : {}),
    ...(asked.success ? { outputFormat: asked.data } : {}),
  })
}

function flagsOf(globals: Globals): Flags {
  return {
    server: globals.server ?? globals.serverRootUrl,
    api_key: globals.apiKey,
    profile: globals.configProfile,
    output_format: globals.json ? 'json' : globals.outputFormat,
  }
}

function outputOptions(line: CommandLine, globals: Globals, settings: Settings | undefined) {
  const { env, stdout, stderr } = line
  const forced = Boolean(env.FORCE_COLOR) && env.FORCE_COLOR !== '0'
  const format = OutputFormat.optional().parse(
    settings?.output_format.value ?? (globals.json ? 'json' : globals.outputFormat),
  )
  const coloured = (stream: Terminal) => forced || (!env.NO_COLOR && env.TERM !== 'dumb' && stream.isTTY === true)
  return {
    stdout,
    stderr,
    format: format ?? (stdout.isTTY || forced ? 'pretty' : 'text'),
    colour: { stdout: format !== 'text' && coloured(stdout), stderr: format !== 'text' && coloured(stderr) },
    quiet: globals.quiet,
    debug: globals.debug,
    jq: null,
  } as const
}

function contextOf(line: CommandLine, out: Output, settings: Settings, globals: Globals): Context {
  const { version, env, cwd, pid, stdin, stdout, stderr, signal, self } = line
  const interactive = globals.input && !env.CI && stdin.isTTY === true && line.stderr.isTTY === true
  const streams = { stdin, stdout, stderr }
  return { version, out, settings, env, cwd, pid, ...streams, signal, interactive, self, debug: globals.debug }
}
