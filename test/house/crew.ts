/**
 * Agents of every class at work for a real worker, in real runners: what each was given is in a folder of its own, and
 * files in it let it go on. `joins` takes a prompt into its running turn, `after` when the turn is over; `built-in` is
 * the harness `baton` with a script, whose own history says what it was given.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { AgentConfig } from '../../src/contract/index.ts'
import { type Client, connect } from '../../src/sdk/client.ts'
import { processesOf, startWorkerProcess, until, type WorkerProcess } from './processes.ts'

const TALKER = join(import.meta.dirname, '../harnesses/talking-agent.ts')
const BUILT_IN = join(import.meta.dirname, '../../src/agent/main.ts')
const RUNNER = join(import.meta.dirname, 'runner-process.ts')

export const KINDS = ['joins', 'after', 'built-in'] as const
export type Kind = (typeof KINDS)[number]
/** What an agent does of its own accord; then it ends, or goes on with what it is told. */
export const CUES = {
  hold: 'HOLD',
  end: 'Begin.',
  wait: 'CALL wait_for_events {}',
  /** The same; but what comes next it takes as the answer to its call, and does not say that it waits. */
  held: 'CALL wait_for_events {}',
  /** It waits until it knows two letters, and ends then; `hold-listen`: when it was let go before. Not `built-in`. */
  listen: 'LISTEN 2',
  'hold-listen': 'HOLD\nLISTEN 2',
  /** It does not obey when its turn is to stop. Not `built-in`. */
  deaf: 'HOLD DEAF',
  crash: 'CRASH',
  fail: 'CALL finish_task {"success":false,"summary":"It cannot be done."}',
} as const
export type Cue = keyof typeof CUES

/** What one conversation was given, in order. */
export type Given = { conversation: string; texts: string[] }

export type Crew = ReturnType<typeof makeCrew>

export function makeCrew(folder: string, server: { url: string; api_key: string }) {
  const started: WorkerProcess[] = []
  mkdirSync(join(folder, 'scripts'), { recursive: true })
  for (const cue of Object.keys(CUES) as Cue[]) writeFileSync(scriptOf(cue), JSON.stringify(script(folder, cue)))

  function scriptOf(cue: Cue): string {
    return join(folder, 'scripts', `${cue}.json`)
  }

  const own = (run_id: string) => join(folder, run_id)
  const put = (run_id: string, file: string) => {
    mkdirSync(own(run_id), { recursive: true })
    writeFileSync(join(own(run_id), file), '')
  }

  return {
    /** `hold_ms`: how long a tool call is held in its harnesses. */
    worker(worker_id: string, hold_ms = HOLD_MS): WorkerProcess {
      const talker = (joins: boolean) => ({
        command: process.execPath,
        args: [TALKER],
        env: { TALK: folder, TALK_BY_RUN: '1', TALK_JOINS: joins ? '1' : '0' },
        joins_prompt_to_running_turn: joins,
        tool_hold_ms: hold_ms,
      })
      const baton = { command: process.execPath, args: [BUILT_IN, 'acp-agent'], tool_hold_ms: hold_ms }
      const worker = startWorkerProcess({
        server: server.url,
        api_key: server.api_key,
        worker_id,
        state_dir: join(folder, worker_id),
        capacity: 40,
        runner: [process.execPath, RUNNER],
        environment: { BATON_HARNESSES: JSON.stringify({ joins: talker(true), after: talker(false), baton }) },
      })
      started.push(worker)
      return worker
    },
    async close() {
      await Promise.all(started.map((worker) => worker.kill()))
    },
    configOf(kind: Kind, cue: Cue, worker_host: string): AgentConfig {
      if (kind !== 'built-in') return { harness: { type: kind }, worker_host }
      const variables = { BATON_SCRIPT: scriptOf(cue) }
      const environment = { repositories: [], setup_commands: [], variables }
      return { harness: { type: 'baton' }, model_id: 'scripted', worker_host, environment }
    },
    /** Lets the turn go on that is held now, or the next. */
    go: (run_id: string) => put(run_id, 'go'),
    /** From now on nothing holds it. */
    open: (run_id: string) => put(run_id, 'open'),
    shut: (run_id: string) => rmSync(join(own(run_id), 'open'), { force: true }),
    given: (run_id: string): Given[] => [...talked(own(run_id)), ...remembered(own(run_id))],
    /** Its agent has begun its first turn. */
    atWork: (run_id: string) =>
      until('the agent is at work', () => [...talked(own(run_id)), ...remembered(own(run_id))].length > 0, 40_000),
    /** The platform in the name of the run's current execution, with the token that its agent holds. */
    speaksAs: (run_id: string): Client => connect({ server: server.url, token: tokenIn(own(run_id)), retries: 0 }),
  }
}

/** How long a tool call is held in these harnesses, in milliseconds. */
const HOLD_MS = 300

export function runnerOf(execution_id: string): number {
  const pid = processesOf(execution_id).find((one) =>
    readFileSync(`/proc/${one}/cmdline`, 'utf8').includes('runner-process.ts'),
  )
  if (pid === undefined) throw new Error(`Execution ${execution_id} has no runner here.`)
  return pid
}

/** Each turn of the built-in agent is held twice; at each hold it shows its history. */
function script(folder: string, cue: Cue) {
  const home = `d=${folder}/$OZ_RUN_ID; mkdir -p $d/history`
  const show = 'cp .baton/*/home/agent/*.jsonl $d/history/; printf %s "$WARP_API_KEY" > $d/token'
  const held = `${home}; ${show}; until [ -e $d/go ] || [ -e $d/open ]; do sleep 0.05; done; rm -f $d/go; sleep 0.2`
  const bash = (command: string) => ({ tools: [{ name: 'bash', input: { command } }] })
  const platform = (name: string, input: object) => ({ tools: [{ name: `mcp__baton__${name}`, input }] })
  const turn = [bash(held), bash(held), { text: 'Done.' }]
  const first = {
    hold: [],
    end: [],
    listen: [],
    'hold-listen': [],
    deaf: [],
    wait: [platform('wait_for_events', {}), { text: 'I wait.' }],
    held: [platform('wait_for_events', {})],
    crash: [bash(`${home}; [ -e $d/crashed ] || { touch $d/crashed; kill -9 $PPID; }`)],
    fail: [platform('finish_task', { success: false, summary: 'It cannot be done.' })],
  }[cue]
  return [...first, ...Array.from({ length: 6 }, () => turn).flat()]
}

type Line = { pid?: number; text?: string; answer?: string; mcp?: { headers: { name: string; value: string }[] }[] }

function linesOf(path: string): Line[] {
  if (!existsSync(path)) return []
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1)
  return lines.map((line): Line => JSON.parse(line))
}

function talked(folder: string): Given[] {
  const by_pid = new Map<number, string[]>()
  for (const { pid, text, answer } of linesOf(join(folder, 'given.ndjson'))) {
    const said = text ?? answer
    if (pid !== undefined && said !== undefined) by_pid.set(pid, [...(by_pid.get(pid) ?? []), said])
  }
  return [...by_pid].map(([pid, texts]) => ({ conversation: String(pid), texts }))
}

type Remembered = { message?: { role: string; content: unknown } }

/** The histories in the order of their last change; what the agent itself said is left out. */
function remembered(folder: string): Given[] {
  const path = join(folder, 'history')
  if (!existsSync(path)) return []
  return readdirSync(path).map((name) => {
    const lines = readFileSync(join(path, name), 'utf8').split('\n').slice(0, -1)
    const messages = lines.map((line): Remembered => JSON.parse(line)).flatMap(({ message }) => message ?? [])
    const texts = messages
      .filter(({ role }) => role !== 'assistant')
      .map(({ content }) => (typeof content === 'string' ? content : JSON.stringify(content)))
    return { conversation: name, texts }
  })
}

function tokenIn(folder: string): string {
  const path = join(folder, 'token')
  if (existsSync(path)) return readFileSync(path, 'utf8')
  const sessions = linesOf(join(folder, 'given.ndjson')).flatMap(({ mcp }) => mcp ?? [])
  return sessions.at(-1)?.headers[0]?.value.replace('Bearer ', '') ?? ''
}
