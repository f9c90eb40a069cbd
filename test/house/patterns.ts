/**
 * Templates as people run them: the built product with its own worker, agents that follow a script over a real model
 * API on loopback, commands that are real, and git repositories that they push to.
 *
 * A script is found by words of the agent's prompt. What it says next follows from what the agent has been told and has
 * done, so it does not matter how a message came.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type ChatCompletionRequest, LLMock } from '@copilotkit/aimock'
import { z } from 'zod'
import type { BatchTask, Run } from '../../src/contract/index.ts'
import { ENTRY, emptyPlace, startBaton, startUp, type Up } from './baton.ts'
import { until } from './processes.ts'

type Call = { name: string; input: unknown }
export type Turn = {
  /** All that it was told, prompts and answers of tools alike. */
  told: string
  /** Tool calls that it has made. */
  calls: number
  /** How often it has called a tool with this text in its input. */
  used(tool: string, text?: string): number
  bash(command: string): Call
  send(to: string[], subject: string, message: string): Call
  platform(tool: string, input: object): Call
  /** Waits for events; where it was told that there are none yet, its turn ends. */
  wait(): Call | string
}
/** What an agent whose prompt has these words says next: a call, or words that end its turn. */
export type Script = { prompt: RegExp; next(turn: Turn): Call | string }

export type Patterns = Up & {
  folder: string
  git(cwd: string, ...args: string[]): string
  /** A bare repository with these files on `main`; its path. */
  origin(name: string, files: Record<string, string>): string
  /** Another commit on a branch of it. */
  push(origin: string, branch: string, files: Record<string, string>): void
  /** `baton ARGS`, as its JSON. */
  baton(...args: string[]): Promise<unknown>
  batch(template: string, sets: string[]): Promise<{ state: string; tasks: Record<string, BatchTask> }>
  run(template: string, sets: string[]): Promise<Run>
  /** The text of the one FILE artifact of a run. */
  artifact(run_id: string): Promise<string>
  close(): Promise<void>
}

const USAGE = { prompt_tokens: 100, completion_tokens: 10, total_tokens: 110 }
const ENDED_MS = 90_000
const OTHER = { command: process.execPath, args: [ENTRY, 'acp-agent'] }

export async function openPatterns(scripts: Script[]): Promise<Patterns> {
  const model = new LLMock({ port: 0, logLevel: 'silent' })
  model.on({ predicate: () => true }, (request) => {
    const said = next(scripts, request)
    const answer =
      typeof said === 'string'
        ? { content: said }
        : { toolCalls: [{ name: said.name, arguments: JSON.stringify(said.input) }] }
    return { ...answer, usage: USAGE }
  })
  await model.start()
  const place = await emptyPlace()
  Object.assign(place.env, {
    BATON_MODEL_BASE_URL: `${model.url}/v1`,
    BATON_MODEL_API_KEY: 'none',
    BATON_MODEL_ID: 'mock',
    BATON_HARNESSES: JSON.stringify({ other: OTHER }),
  })
  writeFileSync(join(place.folder, '.gitconfig'), '[user]\n\tname = Agent\n\temail = agent@localhost\n')
  const up = await startUp(place, ['--port', '0', '--max-concurrent', '4'])
  const git = (cwd: string, ...args: string[]) =>
    execFileSync('git', args, { cwd, encoding: 'utf8', env: place.env, stdio: ['ignore', 'pipe', 'pipe'] }).trim()

  function commit(tree: string, files: Record<string, string>): void {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(tree, path)), { recursive: true })
      writeFileSync(join(tree, path), text)
    }
    git(tree, 'add', '-A')
    git(tree, 'commit', '-q', '-m', `Write ${Object.keys(files).join(' ')}`)
  }

  async function baton(...args: string[]): Promise<unknown> {
    const started = startBaton([...args, '--json'], {
      ...place.env,
      BATON_SERVER: up.url,
      BATON_API_KEY: up.api_key,
    })
    const code = await new Promise((done) => started.child.once('close', done))
    if (code !== 0) throw new Error(`baton ${args.join(' ')} ended with ${code}:\n${started.output()}`)
    return JSON.parse(started.output())
  }

  const setsOf = (sets: string[]) => sets.flatMap((set) => ['--set', set])

  return {
    ...up,
    folder: place.folder,
    git,
    baton,
    origin(name, files) {
      const bare = join(place.folder, 'origins', `${name}.git`)
      mkdirSync(bare, { recursive: true })
      git(bare, 'init', '-q', '--bare', '-b', 'main')
      const tree = join(place.folder, 'seeds', name)
      git(place.folder, 'clone', '-q', bare, tree)
      git(tree, 'switch', '-q', '-C', 'main')
      commit(tree, files)
      git(tree, 'push', '-q', 'origin', 'main')
      return bare
    },
    push(origin, branch, files) {
      const tree = join(place.folder, 'seeds', `${branch}-${Math.random().toString(36).slice(2)}`)
      git(place.folder, 'clone', '-q', origin, tree)
      git(tree, 'switch', '-q', '-c', branch)
      commit(tree, files)
      git(tree, 'push', '-q', 'origin', branch)
    },
    async batch(template, sets) {
      const made = await baton('batch', 'run', '--template', template, ...setsOf(sets))
      const { batch_id } = z.object({ batch_id: z.uuid() }).parse(made)
      const params = { batch_id }
      const ended = await until(
        `the batch of ${template} has ended`,
        async () => {
          const batch = await up.client.batches.get({ params })
          return batch.ended_at === null ? null : batch
        },
        ENDED_MS,
      )
      const { tasks } = await up.client.batches.tasks({ params })
      return { state: ended.state, tasks: Object.fromEntries(tasks.map((task) => [task.name, task])) }
    },
    async run(template, sets) {
      const made = await baton('agent', 'run-cloud', '--template', template, ...setsOf(sets))
      const { run_id } = z.object({ run_id: z.uuid() }).parse(made)
      return until(
        `the run of ${template} has ended`,
        async () => {
          const run = await up.client.runs.get({ params: { run_id } })
          return ['SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED'].includes(run.state) ? run : null
        },
        ENDED_MS,
      )
    },
    async artifact(run_id) {
      const run = await up.client.runs.get({ params: { run_id } })
      const File = z.object({ artifact_type: z.literal('FILE'), data: z.object({ artifact_uid: z.string() }) })
      const [file] = File.array().length(1).parse(run.artifacts)
      const artifact_uid = file?.data.artifact_uid ?? ''
      const artifact = await up.client.artifacts.get({ params: { artifact_uid } })
      if (artifact.artifact_type !== 'FILE') throw new Error(`artifact ${artifact_uid} is no file`)
      return (await fetch(artifact.data.download_url)).text()
    },
    async close() {
      await up.process.kill('SIGTERM')
      await model.stop()
      await place.remove()
    },
  }
}

const textOf = (content: ChatCompletionRequest['messages'][number]['content']): string =>
  typeof content === 'string' ? content : (content ?? []).map((part) => part.text ?? '').join('\n')

const NOTHING_YET = /Nothing has come yet|"nothing_yet"/

function next(scripts: Script[], { messages }: ChatCompletionRequest): Call | string {
  const heard = messages.filter(({ role }) => role !== 'assistant' && role !== 'system')
  const told = heard.map(({ content }) => textOf(content)).join('\n')
  const calls = messages.flatMap((message) => message.tool_calls ?? [])
  const script = scripts.find(({ prompt }) => prompt.test(textOf(heard[0]?.content ?? '')))
  if (script === undefined) return `Nothing is written for me: ${told.slice(0, 200)}`
  const platform = (tool: string, input: object): Call => ({ name: `mcp__baton__${tool}`, input })
  return script.next({
    told,
    calls: calls.length,
    used: (tool, text = '') =>
      calls.filter((call) => call.function.name.endsWith(tool) && call.function.arguments.includes(text)).length,
    platform,
    bash: (command) => ({ name: 'bash', input: { command } }),
    send: (addresses, subject, message) => platform('send_message_to_agent', { addresses, subject, message }),
    wait: () => (NOTHING_YET.test(textOf(heard.at(-1)?.content ?? '')) ? 'I wait.' : platform('wait_for_events', {})),
  })
}

/** Runs these commands one after the other, then ends with these words. */
export const commands =
  (list: string[], words: string): Script['next'] =>
  ({ calls, bash }) => {
    const command = list[calls]
    return command === undefined ? words : bash(command)
  }
