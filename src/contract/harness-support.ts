/**
 * What a harness says to the platform from inside its sandbox, where MCP is not at hand: the public Oz
 * `harness-support` endpoints. No path or body names a run: the execution's token does, and a client's
 * `X-Warp-Cloud-Agent-ID` may only repeat it.
 */
import { z } from 'zod'
import { ARTIFACT_BODY_BYTES_MAX, NewFile } from './artifacts.ts'
import { WebAddress } from './files.ts'
import { Nothing, route } from './route.ts'

/** Names the run in whose name a program in a sandbox speaks. */
export const ACTING_RUN_HEADER = 'x-warp-cloud-agent-id'

/** A page that is neither a pull request nor a file: an issue, a document, a deployment. */
export const ExternalReference = z.object({
  reference_type: z.string().min(1).max(256),
  url: WebAddress,
  title: z.string().max(1024).nullish(),
  metadata: z.record(z.string(), z.unknown()).nullish(),
})

const PullRequest = z.object({ url: WebAddress, branch: z.string().min(1).max(1024) })

export const ReportArtifact = z.discriminatedUnion('artifact_type', [
  z.object({ artifact_type: z.literal('PULL_REQUEST'), data: PullRequest }),
  z.object({ artifact_type: z.literal('EXTERNAL_REFERENCE'), data: ExternalReference }),
  /** Ours: with the file's own content. */
  z.object({ artifact_type: z.literal('FILE'), data: NewFile }),
])
export type ReportArtifact = z.infer<typeof ReportArtifact>

const Sentence = z.string().min(1).max(16_384)

export const FinishTask = z.object({ success: z.boolean(), summary: Sentence })
export type FinishTask = z.infer<typeof FinishTask>

export const ReportShutdown = z.object({
  error: z.object({ category: z.string().min(1).max(128), message: Sentence }).optional(),
})
export type ReportShutdown = z.infer<typeof ReportShutdown>

export const harnessSupportRoutes = {
  reportArtifact: route({
    name: 'harness_support.report_artifact',
    method: 'POST',
    path: '/harness-support/report-artifact',
    tag: 'Harness support',
    callers: ['execution'],
    summary: 'Add a pull request, another reference or a file to what the run has made.',
    body: ReportArtifact,
    body_bytes_max: ARTIFACT_BODY_BYTES_MAX,
    answer: z.object({ artifact_uid: z.string() }),
  }),
  notifyUser: route({
    name: 'harness_support.notify_user',
    method: 'POST',
    path: '/harness-support/notify-user',
    tag: 'Harness support',
    callers: ['execution'],
    summary: 'Tell the person behind the run something, in Markdown: it is kept with the run as a notice.',
    body: z.object({ message: Sentence }),
    answer: Nothing,
  }),
  finishTask: route({
    name: 'harness_support.finish_task',
    method: 'POST',
    path: '/harness-support/finish-task',
    tag: 'Harness support',
    callers: ['execution'],
    summary: "How the work went. When the agent's turn ends, the run ends so, with this summary.",
    body: FinishTask,
    answer: Nothing,
  }),
  reportShutdown: route({
    name: 'harness_support.report_shutdown',
    method: 'POST',
    path: '/harness-support/report-shutdown',
    tag: 'Harness support',
    callers: ['user', 'execution'],
    after_end: true,
    summary:
      'The harness stops, cleanly or for an error: its execution ends, even if its runner and worker are gone. A person names the run in X-Warp-Cloud-Agent-ID.',
    body: ReportShutdown,
    answer: Nothing,
  }),
}
