/** What a foreign harness is to be told when it begins, in the parts that the public Oz protocol knows. */
import type { ResolvedPrompt, ResolvePrompt } from '../contract/index.ts'
import { renderAssignment } from './assignment.ts'
import type { ExecutionCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { superseded } from './transitions.ts'

/** `remembers`: the harness has its own transcript of the conversation, and goes on with it. */
export async function resolvePrompt(
  room: Room,
  { execution_id }: ExecutionCaller,
  { skill, attachments_dir }: ResolvePrompt,
  remembers: boolean,
): Promise<ResolvedPrompt> {
  const run = await room.database.kysely
    .selectFrom('runs')
    .selectAll()
    .where('execution_id', '=', execution_id)
    .executeTakeFirst()
  if (!run) throw superseded()
  const { prompt, guidance, config, context, missed, memories } = await renderAssignment(room, run, execution_id, 0)
  const files = attachments_dir ? await attached(room, run.run_id, attachments_dir) : ''
  const system_prompt = pieces([config.base_prompt ?? '', memories ?? ''])
  return {
    prompt: pieces([skill ? followed(skill) : '', guidance ?? '', prompt, files]),
    ...(system_prompt ? { system_prompt } : {}),
    ...(remembers ? { resumption_prompt: missed ?? GOES_ON } : {}),
    ...(remembers || context === null ? {} : { context }),
  }
}

/** Where they lie is for the harness's driver to say: it has put them there. */
async function attached(room: Room, run_id: string, folder: string): Promise<string> {
  const files = await room.database.kysely
    .selectFrom('uploads')
    .select(['upload_id', 'name', 'mime_type'])
    .where('run_id', '=', run_id)
    .where('purpose', '=', 'attachment')
    .where('confirmed_at', 'is not', null)
    .orderBy('created_at')
    .execute()
  if (files.length === 0) return ''
  const lines = files.map(({ upload_id, name, mime_type }) => `- ${upload_id}/${name} (${mime_type})`)
  return `Files for you, in the folder ${folder}:\n${lines.join('\n')}`
}

const GOES_ON = 'You go on with this conversation.'

const pieces = (texts: string[]): string => texts.filter((text) => text !== '').join('\n\n')

const followed = ({ name, path, content }: NonNullable<ResolvePrompt['skill']>): string =>
  `Follow the skill "${name}"${path ? ` (${path})` : ''}:\n\n${content.trim()}`
