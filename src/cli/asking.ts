/** The body of a run from the options of `agent run`, `agent run-cloud` and `run create`. */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { z } from 'zod'
import { AgentConfig, CreateRun, McpServer, PROMPT_BYTES_MAX, RunMode, readTyped } from '../contract/index.ts'
import { askLine } from './ask.ts'
import { type Context, readAll } from './context.ts'
import { CommandFailure } from './exits.ts'
import { checkKeys } from './keys.ts'
import { collect } from './named.ts'
import { declareOzOptions, ozConfig } from './oz-options.ts'
import { repositoryOf } from './repositories.ts'
import { declareScope, scopeOf } from './scope.ts'
import type { TemplateRun } from './template-rendering.ts'
import { renderTemplate } from './templates.ts'
import { parseDuration } from './text.ts'

export function declareAsking(command: Command): Command {
  command
    .option('-p, --prompt <text>', 'what is to be done')
    .option('--prompt-file <file>', 'read the prompt from a file')
    .option('-n, --name <name>', 'name of the agent in the configuration')
    .option('--title <title>', 'title of the run')
    .option('--model <id>', 'model, such as anthropic/claude-opus-4-5; auto where absent')
    .option('--harness <name>', 'oz (baton), claude, codex, gemini, opencode, command, or one that the worker knows')
    .option('-f, --file <file>', 'JSON or YAML file with the configuration; other options go before it')
    .option('--mcp <server>', 'MCP server: JSON, or a file with JSON; may be repeated', collect)
    .option(
      '--skill <spec>',
      'skill to follow: name, repo:name or org/repo:name; needs no prompt; may be repeated',
      collect,
    )
    .option('--agent <agent>', 'uid or name of the agent identity that works on it')
    .option('-e, --environment <environment>', 'uid or name of the environment to work in')
    .option('--no-environment', 'none')
    .option('--repo <url>', 'repository to clone, URL#ref or a path; may be repeated', collect)
    .option('--setup-command <command>', 'run before the harness starts; may be repeated', collect)
    .option('--time-limit <duration>', 'the longest that one execution may take')
    .option('--max-tries <n>', 'executions before a failure that may be retried is final')
    .option('--secret <name>', 'a secret that it may have, and no other; may be repeated', collect)
    .option('--no-secrets', 'it gets none')
    .option('--claude-auth-secret <name>', 'secret with the key for Anthropic')
    .option('--codex-auth-secret <name>', 'secret with the key for OpenAI')
    .option('--permissions <policy>', 'allow or deny what the harness asks leave for')
    .option('--mode <mode>', 'normal, plan or orchestrate: whether the agent proposes a plan first')
    .option('--conversation <id>', 'conversation to go on with; needs no prompt')
    .option('--no-snapshot', 'it leaves no snapshot of its workspace for its next execution')
    .option('--snapshot-upload-timeout <duration>', 'the longest that the snapshot may take; else 2m')
    .option('--snapshot-script-timeout <duration>', 'the longest that the script that declares it may take; else 1m')
    .option('--parent-run-id <run>', 'make it a child of that run, whose configuration it inherits')
  return declareOzOptions(declareScope(command))
}

/** A template instead of a prompt; what else is given goes before what the template says. */
export const declareTemplate = (command: Command): Command =>
  command
    .option('--template <name>', 'a pattern that is known to work; see baton template list')
    .option('--set <name=value>', 'a parameter of the template; may be repeated', collect)

const Options = z.object({
  template: z.string().optional(),
  set: z.array(z.string()).default([]),
  prompt: z.string().optional(),
  promptFile: z.string().optional(),
  name: z.string().optional(),
  title: z.string().optional(),
  model: z.string().optional(),
  harness: z.string().optional(),
  file: z.string().optional(),
  mcp: z.array(z.string()).optional(),
  environment: z.union([z.string(), z.boolean()]).optional(),
  skill: z.array(z.string()).default([]),
  agent: z.string().optional(),
  repo: z.array(z.string()).default([]),
  setupCommand: z.array(z.string()).default([]),
  timeLimit: z.string().optional(),
  maxTries: z.coerce.number().optional(),
  secret: z.array(z.string()).default([]),
  secrets: z.boolean().default(true),
  claudeAuthSecret: z.string().optional(),
  codexAuthSecret: z.string().optional(),
  permissions: z.string().optional(),
  snapshot: z.boolean().default(true),
  host: z.string().optional(),
  mode: RunMode.optional().catch(() => {
    throw new CommandFailure('usage', '--mode is normal, plan or orchestrate.')
  }),
  conversation: z.uuid('--conversation is the id of a conversation').optional(),
  parentRunId: z.uuid('--parent-run-id is the id of a run').optional(),
  placement: z.enum(['worker', 'parent'], '--placement is worker or parent').optional(),
})
type Options = z.infer<typeof Options>

export async function askedRun(
  context: Context,
  options: Record<string, unknown>,
  argument: string | undefined,
): Promise<CreateRun> {
  const given = Options.safeParse(options)
  if (!given.success) throw new CommandFailure('usage', `${given.error.issues[0]?.message ?? 'Wrong option'}.`)
  const o = given.data
  const oz = ozConfig(options, context.out.note)
  const template = await templateRun(context, o, argument)
  const file = {
    ...template?.config,
    ...(o.file === undefined ? {} : await readConfigFile(context, o.file, AgentConfig)),
  }
  const is_skilled = [...o.skill, ...(file.skills ?? []), file.skill_spec ?? ''].some((spec) => spec !== '')
  const is_optional = is_skilled || o.conversation !== undefined
  const { prompt, mode = 'normal' } = template ?? (await readPrompt(context, o, argument, is_optional))
  const title = o.title ?? template?.title
  const { harness, model, worker_host } = context.settings
  const harness_name = o.harness ?? (file.harness ? undefined : harness.value)
  const model_id = o.model ?? (file.model_id ? undefined : model.value)
  const host = o.host ?? (file.worker_host ? undefined : worker_host.value)
  const timeout = minutesOf(o.timeLimit)
  const config = {
    ...file,
    ...oz,
    ...(o.name === undefined ? {} : { name: o.name }),
    ...(model_id === undefined ? {} : { model_id }),
    ...(harness_name === undefined ? {} : { harness: { ...file.harness, type: harness_name } }),
    ...(typeof o.environment === 'string' ? { environment_id: o.environment } : {}),
    ...(o.environment === false ? { environment_id: null } : {}),
    ...(o.skill.length === 0 ? {} : { skills: o.skill, skill_spec: undefined }),
    ...(host === undefined ? {} : { worker_host: host }),
    ...(timeout === undefined ? {} : { timeout_minutes: timeout }),
    ...(o.maxTries === undefined ? {} : { max_tries: o.maxTries }),
    ...(o.permissions === undefined ? {} : { permissions: o.permissions }),
    ...secretsOf(o, file),
    ...(o.mcp === undefined ? {} : { mcp_servers: { ...file.mcp_servers, ...(await mcpServers(context, o.mcp)) } }),
    ...(o.repo.length + o.setupCommand.length === 0
      ? {}
      : {
          environment: {
            ...file.environment,
            ...(o.repo.length === 0 ? {} : { repositories: o.repo.map((repo) => repositoryOf(context.cwd, repo)) }),
            ...(o.setupCommand.length === 0 ? {} : { setup_commands: o.setupCommand }),
          },
        }),
  }
  const body = CreateRun.safeParse({
    ...(prompt === '' ? {} : { prompt }),
    ...(o.agent === undefined ? {} : { agent_identity_uid: o.agent }),
    ...(title === undefined ? {} : { title }),
    ...((o.mode ?? mode) === 'normal' ? {} : { mode: o.mode ?? mode }),
    ...(o.conversation === undefined ? {} : { conversation_id: o.conversation }),
    ...(o.parentRunId === undefined ? {} : { parent_run_id: o.parentRunId }),
    ...(o.placement === undefined ? {} : { placement: o.placement }),
    ...(o.snapshot ? {} : { snapshot_disabled: true }),
    ...scopeOf(options),
    config,
  })
  if (body.success) return body.data
  const issue = body.error.issues[0]
  throw new CommandFailure('usage', `${issue?.path.join('.') ?? 'The run'}: ${issue?.message ?? 'not as it should be'}`)
}

function secretsOf({ secret, secrets, claudeAuthSecret, codexAuthSecret }: Options, file: AgentConfig): AgentConfig {
  if (secret.length > 0 && !secrets) throw new CommandFailure('usage', 'Give either --secret or --no-secrets.')
  const auth = {
    ...(claudeAuthSecret === undefined ? {} : { claude_auth_secret_name: claudeAuthSecret }),
    ...(codexAuthSecret === undefined ? {} : { codex_auth_secret_name: codexAuthSecret }),
  }
  return {
    ...(secret.length === 0 && secrets ? {} : { secrets: secret.map((name) => ({ name })) }),
    ...(Object.keys(auth).length === 0 ? {} : { harness_auth_secrets: { ...file.harness_auth_secrets, ...auth } }),
  }
}

async function templateRun(
  context: Context,
  o: Options,
  argument: string | undefined,
): Promise<TemplateRun | undefined> {
  if (o.template === undefined) {
    if (o.set.length === 0) return undefined
    throw new CommandFailure('usage', '--set is for a template.', 'Name one with --template; see: baton template list.')
  }
  if ([argument, o.prompt, o.promptFile].some((one) => one !== undefined))
    throw new CommandFailure(
      'usage',
      'A template has a prompt of its own.',
      `Say with --set what it is to do; see: baton template show ${o.template}.`,
    )
  const rendered = await renderTemplate(context, o.template, o.set)
  if (rendered.kind === 'run') return rendered.run
  throw new CommandFailure(
    'usage',
    `Template ${o.template} is one of a batch.`,
    `Start it with: baton batch run --template ${o.template}.`,
  )
}

/**
 * The option, the argument, `-` or piped stdin, or a file; exactly one of them. With a skill or a conversation none is
 * needed; else it is asked for on a terminal, and only what is typed then may say its mode itself.
 */
async function readPrompt(
  context: Context,
  o: Options,
  argument: string | undefined,
  is_optional: boolean,
): Promise<{ prompt: string; mode: RunMode }> {
  const is_given = is_optional || [argument, o.prompt, o.promptFile].some((one) => one !== undefined)
  if (!is_given && context.interactive) {
    const typed = readTyped(await askLine(context, 'What is to be done? (/plan or /orchestrate before it: plan first)'))
    return { ...typed, prompt: needed(typed.prompt) }
  }
  return { prompt: await givenPrompt(context, o, argument, is_optional), mode: 'normal' }
}

async function givenPrompt(
  context: Context,
  o: Options,
  argument: string | undefined,
  is_optional: boolean,
): Promise<string> {
  const given = [o.prompt, argument, o.promptFile].filter((one) => one !== undefined)
  if (given.length > 1)
    throw new CommandFailure(
      'usage',
      'The prompt is given more than once.',
      'Give it as argument, with --prompt or with --prompt-file.',
    )
  if (o.promptFile !== undefined && o.promptFile !== '-')
    return needed(await readText(context, o.promptFile, 'The prompt file'))
  const text = o.promptFile ?? o.prompt ?? argument
  if (text === undefined && is_optional) return ''
  if (text === '-' || (text === undefined && context.stdin.isTTY !== true)) {
    return needed(await readAll(context.stdin, PROMPT_BYTES_MAX, 'The prompt on stdin'))
  }
  return needed(text ?? '')
}

function needed(prompt: string): string {
  if (prompt.trim() !== '') return prompt
  throw new CommandFailure(
    'usage',
    'There is no prompt.',
    'Give it as argument, with --prompt or --prompt-file, or pipe it in.',
  )
}

export async function readText(context: Context, path: string, what: string): Promise<string> {
  return readFile(resolve(context.cwd, path), 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new CommandFailure('usage', `${what} ${path} cannot be read (${error.code ?? error.message}).`)
  })
}

/** A JSON or YAML file, parsed as `shape`. */
export async function readConfigFile<T>(context: Context, path: string, shape: z.ZodType<T>): Promise<T> {
  const parsed = shape.safeParse(checkKeys(await parseConfig(await readText(context, path, 'The file'), path), path))
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const where = issue === undefined || issue.path.length === 0 ? '' : ` ${issue.path.join('.')}:`
  throw new CommandFailure('usage', `${path}:${where} ${issue?.message}`)
}

/** JSON is YAML, but its own parser is quicker to load. */
async function parseConfig(text: string, path: string): Promise<unknown> {
  if (/^\s*\{/.test(text) && path.endsWith('.json')) return parseJson(text, `${path} is not JSON.`)
  const { parse } = await import('yaml')
  try {
    return parse(text, { maxAliasCount: 100 })
  } catch (error) {
    const why = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
    throw new CommandFailure('usage', `${path} is neither JSON nor YAML: ${why}`)
  }
}

export async function mcpServers(context: Context, specs: string[]): Promise<Record<string, McpServer>> {
  const servers: Record<string, McpServer> = {}
  for (const spec of specs) {
    const inline = spec.trim().startsWith('{')
    if (z.uuid().safeParse(spec).success)
      throw new CommandFailure(
        'usage',
        `--mcp ${spec}: Baton keeps no MCP servers by an id.`,
        'Give it as JSON or a file with JSON, or give it to an environment; see: baton mcp list.',
      )
    const value = parseJson(
      inline ? spec : await readText(context, spec, 'The MCP file'),
      `--mcp ${inline ? 'value' : spec} is not JSON.`,
    )
    checkKeys(value, '--mcp')
    const wrapped = z.looseObject({ mcpServers: z.unknown() }).safeParse(value)
    const parsed = z
      .record(z.string(), McpServer)
      .safeParse(wrapped.success && wrapped.data.mcpServers !== undefined ? wrapped.data.mcpServers : value)
    if (!parsed.success)
      throw new CommandFailure(
        'usage',
        '--mcp is not understood.',
        'Write {"name": {"url": "https://…"}} or {"name": {"command": "…", "args": []}}.',
      )
    Object.assign(servers, parsed.data)
  }
  return servers
}

function parseJson(text: string, refusal: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new CommandFailure('usage', refusal)
  }
}

/** Of `--time-limit`. */
export function minutesOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const ms = parseDuration(text)
  if (ms === null || ms <= 0)
    throw new CommandFailure('usage', `--time-limit "${text}" is no duration.`, 'Write it as 30s, 10m or 1h30m.')
  return ms / 60_000
}
