import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { z } from 'zod'
import type { Artifact } from '../../contract/index.ts'
import { actingClient, ownRun } from '../acting.ts'
import { fileToKeep } from '../artifacts.ts'
import type { CommandModule } from '../commands.ts'
import { type Context, clientOf } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { paint } from '../output.ts'
import { bytes, oneLine } from '../text.ts'

export const get: CommandModule = {
  declare: (command) =>
    void command
      .argument('<artifact>', 'its uid')
      .option('-O, --out <file>', 'write what is in it to this file, too; - for stdout'),
  async run(context, { args: [uid = ''], options }) {
    const artifact = await read(context, uid)
    if (typeof options.out === 'string') return save(context, artifact, options.out)
    const { artifact_uid, artifact_type, created_at, data } = artifact
    await context.out.show({ artifact_uid, artifact_type, created_at, ...data }, () => lines(artifact))
  },
}

export const download: CommandModule = {
  declare: (command) =>
    void command
      .argument('<artifact>', 'its uid')
      .option('-O, --out <file>', 'where to; its own name in this folder where absent, - for stdout'),
  async run(context, { args: [uid = ''], options }) {
    const artifact = await read(context, uid)
    await save(context, artifact, typeof options.out === 'string' ? options.out : nameOf(artifact))
  },
}

export const upload: CommandModule = {
  declare: (command) =>
    void command
      .argument('<file>', 'the file to keep; at most 1 MiB')
      .option('--run-id <run>', 'the run that it is of; OZ_RUN_ID where absent')
      .option('--title <title>', 'its title')
      .option('--description <text>', 'what it is'),
  async run(context, { args: [file = ''], options }) {
    const run_id = z.string().optional().parse(options.runId) ?? ownRun(context)
    if (run_id === undefined || run_id === '')
      throw new CommandFailure(
        'usage',
        'It is not known of which run the file is.',
        'Inside a run OZ_RUN_ID says it; elsewhere give --run-id.',
      )
    const body = {
      ...(await fileToKeep(context, file)),
      ...(options.title === undefined ? {} : { title: String(options.title) }),
      ...(options.description === undefined ? {} : { description: String(options.description) }),
    }
    // Inside a run its own token speaks; a person's key may name any run of the team.
    const client = run_id === ownRun(context) ? actingClient(context, run_id) : clientOf(context)
    const kept = await client.artifacts.create({ params: { run_id }, body, signal: context.signal })
    await context.out.show(kept, () => [`Kept ${kept.filepath} (${bytes(kept.size_bytes)}) as ${kept.artifact_uid}.`])
  },
}

const read = (context: Context, artifact_uid: string): Promise<Artifact> =>
  clientOf(context).artifacts.get({ params: { artifact_uid }, signal: context.signal })

async function save(context: Context, artifact: Artifact, out: string): Promise<void> {
  const content = await contentOf(context, artifact)
  if (out === '-') {
    context.stdout.write(content)
    return
  }
  const path = resolve(context.cwd, out)
  await writeFile(path, content).catch((error: NodeJS.ErrnoException) => {
    throw new CommandFailure('failed', `${out} cannot be written (${error.code ?? error.message}).`)
  })
  const { artifact_uid, artifact_type } = artifact
  await context.out.show({ artifact_uid, artifact_type, path }, () => [`Wrote ${out} (${bytes(content.length)}).`])
}

async function contentOf(context: Context, artifact: Artifact): Promise<Buffer> {
  if (artifact.artifact_type === 'PLAN') return Buffer.from(artifact.data.content)
  const { data } = artifact
  const response = await fetch(data.download_url, { signal: context.signal }).catch((cause: unknown) => {
    if (context.signal.aborted) throw cause
    throw new CommandFailure('unreachable', `${new URL(data.download_url).origin} does not answer.`)
  })
  if (!response.ok) throw new CommandFailure('failed', `The file could not be fetched (status ${response.status}).`)
  const content = Buffer.from(await response.arrayBuffer())
  const sha256 = 'sha256' in data ? data.sha256 : undefined
  if (sha256 !== undefined && createHash('sha256').update(content).digest('hex') !== sha256)
    throw new CommandFailure('failed', 'What came is not the file that was kept: its SHA-256 differs. Try again.')
  return content
}

function nameOf(artifact: Artifact): string {
  switch (artifact.artifact_type) {
    case 'FILE':
      // The server has checked it; what saves it does so again.
      return basename(artifact.data.filename)
    case 'PLAN':
      return `plan-${artifact.artifact_uid}.md`
    case 'SCREENSHOT':
      return `screenshot-${artifact.artifact_uid}.${artifact.data.content_type.split('/').at(-1)?.replace(/\W/g, '')}`
  }
}

function lines({ artifact_uid, artifact_type, created_at, data }: Artifact): string[] {
  const rows: [string, string | undefined][] = [
    ['Artifact', artifact_uid],
    ['Type', artifact_type],
    ['Title', 'title' in data ? data.title : undefined],
    ['File', 'filepath' in data ? data.filepath : undefined],
    ['Description', 'description' in data ? data.description : undefined],
    ['Content', data.content_type],
    ['Size', 'size_bytes' in data && data.size_bytes !== undefined ? bytes(data.size_bytes) : undefined],
    ['SHA-256', 'sha256' in data ? data.sha256 : undefined],
    ['Made', created_at],
    ['Address', 'download_url' in data ? data.download_url : undefined],
    ['until', 'expires_at' in data ? data.expires_at : undefined],
  ]
  const head = rows.flatMap(([name, value]) => (value ? [`${paint.dim(name.padEnd(12))} ${oneLine(value)}`] : []))
  return 'content' in data ? [...head, '', ...data.content.split('\n')] : head
}
