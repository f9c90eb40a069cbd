import type { McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { ExternalReference, FinishTask, ReportArtifact, WEB_ADDRESS_LENGTH_MAX } from '../../contract/index.ts'
import { answer, answerOrSay, type ToolRoom } from './call.ts'
import { isLoose, pick, present, shown, unpack } from './liberal.ts'

const REPORT = `Record a lasting result of your work, so that people find it beside your run: a pull request that \
you opened, another page such as an issue, a document or a deployment, or a text that you wrote, such as a report or \
a comparison (FILE: give filename and content). Call it once for each, right after you made it. It opens no pull \
request by itself: do that first.`

const ReportInput = z.object({
  artifact_type: z.enum(['PULL_REQUEST', 'EXTERNAL_REFERENCE', 'FILE']).describe('What it is.'),
  url: z
    .string()
    .max(WEB_ADDRESS_LENGTH_MAX)
    .optional()
    .describe('Where it is; begins with http:// or https://. Not for a file.'),
  branch: z.string().max(1024).optional().describe('The branch of the pull request; needed for one.'),
  reference_type: ExternalReference.shape.reference_type
    .optional()
    .describe('For another reference: issue, document, deployment …'),
  title: z.string().max(1024).optional().describe('For another reference or a file: one line for people.'),
  filename: z.string().max(1024).optional().describe('Of a file: its name, such as report.md.'),
  content: z.string().optional().describe('Of a file: the whole text, at most 1 MiB.'),
  description: z.string().max(4096).optional().describe('Of a file: what it is.'),
})

const REPORT_SCHEMAS = {
  inputSchema: shown(z.preprocess(readReport, ReportInput)),
  outputSchema: shown(z.object({ artifact_uid: z.string() })),
}

const FINISH = `Say how your task went. Call it once, as the last thing, when the goal is reached or you are sure \
that it cannot be reached, and then end your turn with a short closing text. If a parent started you, first send \
it your result with send_message_to_agent. Your run ends as SUCCEEDED or FAILED with this summary. Agents that you \
started are not ended by it.`

const FINISH_SCHEMAS = {
  inputSchema: shown(
    z.object({
      success: z.boolean().describe('Whether the goal was reached.'),
      summary: FinishTask.shape.summary.describe('What was reached, or why it was not, in a few sentences for people.'),
    }),
  ),
  outputSchema: shown(z.object({ success: z.boolean(), advice: z.string() })),
}

export function addOutcomeTools(server: McpServer, its: ToolRoom): void {
  const { room, caller } = its
  server.registerTool(
    'report_artifact',
    {
      title: 'Report an artifact',
      description: REPORT,
      ...REPORT_SCHEMAS,
      annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: false },
    },
    (asked) =>
      answerOrSay(its, async () => {
        const parsed = ReportArtifact.safeParse({ artifact_type: asked.artifact_type, data: artifactOf(asked) })
        if (!parsed.success) return refuse(parsed.error)
        const { artifact_uid } = await room.engine.artifacts.report(caller, parsed.data)
        return answer({ artifact_uid }, 'Recorded.')
      }),
  )
  server.registerTool(
    'finish_task',
    {
      title: 'Finish the task',
      description: FINISH,
      ...FINISH_SCHEMAS,
      annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true, openWorldHint: false },
    },
    (asked) =>
      answerOrSay(its, async () => {
        await room.engine.executions.note(caller, asked)
        const advice = 'End your turn now; your run then ends so.'
        return answer({ success: asked.success, advice }, `Noted. ${advice}`)
      }),
  )
}

function artifactOf(asked: z.infer<typeof ReportInput>) {
  const { artifact_type, url, branch, reference_type, title, filename: filepath, content, description } = asked
  if (artifact_type === 'PULL_REQUEST') return present({ url, branch })
  if (artifact_type === 'FILE') return present({ filepath, content, title, description })
  return present({ reference_type: reference_type ?? 'link', url, title })
}

function refuse(error: z.ZodError) {
  const wrong = error.issues.map((issue) => `${String(issue.path.at(-1))}: ${issue.message}`).join('; ')
  return { content: [{ type: 'text' as const, text: `Not recorded: ${wrong}. (invalid_request)` }], isError: true }
}

function readReport(given: unknown): unknown {
  const asked = unpack(given)
  if (!isLoose(asked)) return asked
  const inner = pick(asked, 'data')
  const all = isLoose(inner) ? { ...asked, ...inner } : asked
  const type = pick(all, 'artifact_type', 'type')
  return present({
    artifact_type: typeof type === 'string' ? type.toUpperCase().replace(/[\s-]+/g, '_') : type,
    url: pick(all, 'url', 'link'),
    branch: pick(all, 'branch'),
    reference_type: pick(all, 'reference_type'),
    title: pick(all, 'title'),
    filename: pick(all, 'filename', 'filepath', 'file_name', 'path'),
    content: pick(all, 'content', 'text'),
    description: pick(all, 'description'),
  })
}
