/** Artifacts: what runs made for people, looked at, fetched and kept. */
import { writeFile } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { z } from 'zod'
import type { Artifact } from '../../contract/index.ts'
import { actingClient, ownRun } from '../acting.ts'
import { fetchBytes, fetchFile, fileToSend, refuseToReplace, type Source, sendFile } from '../artifacts.ts'
import type { CommandModule } from '../commands.ts'
import { type Context, clientOf } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { paint } from '../output.ts'
import { bytes, oneLine } from '../text.ts'

export const get: CommandModule = {
  declare: (command) => void command.argument('<artifact>', 'its uid'),
  async run(context, { args: [uid = ''] }) {
    const artifact = await read(context, uid)
    await context.out.show(flat(artifact), () => lines(artifact))
  },
}

export const download: CommandModule = {
  declare: (command) =>
    void command
      .argument('<artifact>', 'its uid')
      .option('-o, --out <file>', 'where to; its own name in this folder where absent, - for stdout')
      .option('--force', 'also over a file that is there'),
  async run(context, { args: [uid = ''], options }) {
    const artifact = await read(context, uid)
    const out = typeof options.out === 'string' ? options.out : nameOf(artifact)
    if (out === '-') {
      context.stdout.write(await contentOf(context, artifact))
      return
    }
    const path = resolve(context.cwd, out)
    const size = await save(context, artifact, { path, force: options.force === true })
    const { artifact_uid, artifact_type } = artifact
    await context.out.show({ artifact_uid, artifact_type, path }, () => [`Wrote ${out} (${bytes(size)}).`])
  },
}

const Ids = z.object({ runId: z.string().min(1).optional(), conversationId: z.string().min(1).optional() })

export const upload: CommandModule = {
  declare: (command) =>
    void command
      .argument('<file>', 'the file to keep; at most 100 MiB')
      .option('--run-id <run>', 'the run that it is of; OZ_RUN_ID where absent')
      .option('--conversation-id <conversation>', 'instead of the run: the conversation that it is of')
      .option('--title <title>', 'its title')
      .option('--description <text>', 'what it is'),
  async run(context, { args: [file = ''], options }) {
    const of = whose(context, Ids.parse(options))
    const { path, filepath, size_bytes, checksum } = await fileToSend(context, file)
    const body = {
      ...of,
      ...{ filepath, size_bytes },
      ...(options.title === undefined ? {} : { title: String(options.title) }),
      ...(options.description === undefined ? {} : { description: String(options.description) }),
    }
    // Inside a run its own token speaks; a person's key may name any run of the team.
    const client = of.run_id === ownRun(context) ? actingClient(context, of.run_id) : clientOf(context)
    const { signal } = context
    const { upload_id, upload_target } = await client.artifacts.upload({ body, signal })
    await sendFile(context, upload_target, { path, checksum })
    const kept = await client.artifacts.confirm({ params: { upload_id }, body: { checksum }, signal })
    await context.out.show(kept, () => [`Kept ${kept.filepath} (${bytes(kept.size_bytes)}) as ${kept.artifact_uid}.`])
  },
}

type Whose = { run_id: string; conversation_id?: never } | { conversation_id: string; run_id?: never }

function whose(context: Context, { runId, conversationId }: z.infer<typeof Ids>): Whose {
  if (runId !== undefined && conversationId !== undefined)
    throw new CommandFailure('usage', '--run-id and --conversation-id name the same thing: give one of them.')
  if (conversationId !== undefined) return { conversation_id: conversationId }
  const run_id = runId ?? ownRun(context)
  if (run_id !== undefined) return { run_id }
  throw new CommandFailure(
    'usage',
    'It is not known of which run the file is.',
    'Inside a run OZ_RUN_ID says it; elsewhere give --run-id or --conversation-id.',
  )
}

const read = (context: Context, artifact_uid: string): Promise<Artifact> =>
  clientOf(context).artifacts.get({ params: { artifact_uid }, signal: context.signal })

type Target = { path: string; force: boolean }

async function save(context: Context, artifact: Artifact, { path, force }: Target): Promise<number> {
  if (artifact.artifact_type !== 'PLAN') return fetchFile(context, sourceOf(artifact), path, force)
  const { content } = artifact.data
  if (!force) await refuseToReplace(path)
  await writeFile(path, content, { flag: force ? 'w' : 'wx' }).catch((error: NodeJS.ErrnoException) => {
    throw new CommandFailure('failed', `${path} cannot be written (${error.code ?? error.message}).`)
  })
  return Buffer.byteLength(content)
}

const contentOf = async (context: Context, artifact: Artifact): Promise<Buffer> =>
  artifact.artifact_type === 'PLAN' ? Buffer.from(artifact.data.content) : fetchBytes(context, sourceOf(artifact))

const sourceOf = ({ data }: Exclude<Artifact, { artifact_type: 'PLAN' }>): Source => ({
  url: data.download_url,
  sha256: 'sha256' in data ? data.sha256 : undefined,
})

/** Every field is there, so that scripts need not ask whether it is. */
function flat({ artifact_uid, artifact_type, created_at, data }: Artifact) {
  const made = { artifact_uid, artifact_type, created_at }
  if ('content' in data) return { ...made, ...data }
  return { ...made, ...{ filepath: null, filename: null, title: null, description: null, size_bytes: null }, ...data }
}

function nameOf(artifact: Artifact): string {
  switch (artifact.artifact_type) {
    case 'FILE':
      // The server has checked it; what saves it does so again.
      return basename(artifact.data.filename.replaceAll('\\', '/'))
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
