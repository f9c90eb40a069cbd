/**
 * The transcript: what happened in a run, as entries numbered 1, 2, 3… in each execution.
 *
 * A runner journals an entry before it sends it; the server keeps `(execution_id, number)` once. Live text is
 * carried by deltas, which are kept nowhere and always precede the entry that holds the whole text.
 */
import { z } from 'zod'
import { queryNumber, route } from './route.ts'
import { RunId, Timestamp } from './run-states.ts'
import { ToolCategory } from './tool-categories.ts'

/** Bodies above this are kept in a blob; the row keeps a head of this size. */
export const ENTRY_HEAD_BYTES = 8 * 1024
/** The largest body of one entry; longer text is cut by the runner, with a mark that says how much is missing. */
export const ENTRY_BYTES_MAX = 1024 * 1024

export const FileChange = z.object({ path: z.string(), old_text: z.string().nullable(), new_text: z.string() })

export const EntryBody = z.discriminatedUnion('kind', [
  /** What the agent was asked. */
  z.object({ kind: z.literal('prompt'), text: z.string() }),
  /** What it said; `parent_call_id`: its sub-agent, which that call had started within the harness. */
  z.object({ kind: z.literal('text'), text: z.string(), parent_call_id: z.string().optional() }),
  z.object({ kind: z.literal('thought'), text: z.string(), parent_call_id: z.string().optional() }),
  z.object({
    kind: z.literal('tool_call'),
    call_id: z.string(),
    name: z.string(),
    category: ToolCategory,
    /** One line for a person, such as the command itself. */
    title: z.string(),
    input: z.unknown().optional(),
    paths: z.array(z.string()).optional(),
    parent_call_id: z.string().optional(),
  }),
  z.object({
    kind: z.literal('tool_result'),
    call_id: z.string(),
    status: z.enum(['completed', 'failed', 'denied']),
    output: z.string(),
    changes: z.array(FileChange).optional(),
    exit_code: z.int().optional(),
  }),
  /** The agent's list of what it means to do; each one replaces the one before. */
  z.object({
    kind: z.literal('plan'),
    items: z.array(z.object({ content: z.string(), status: z.enum(['pending', 'in_progress', 'completed']) })),
  }),
  /** Output of a command that is the harness itself (`command`) or of a setup command. */
  z.object({ kind: z.literal('output'), stream: z.enum(['stdout', 'stderr']), text: z.string() }),
  /** What Baton itself did or found: cloning, setting up, the harness started, a permission denied. */
  z.object({
    kind: z.literal('system'),
    level: z.enum(['info', 'warning', 'error']),
    name: z.string(),
    text: z.string(),
    details: z.record(z.string(), z.unknown()).optional(),
  }),
  /** Text that could not be kept; never silent. */
  z.object({ kind: z.literal('gap'), bytes: z.int(), reason: z.string() }),
  /** An update that this version does not know, kept as it came. */
  z.object({ kind: z.literal('unknown'), raw: z.unknown() }),
])
export type EntryBody = z.infer<typeof EntryBody>

/** What a runner sends. `at` is the runner's wall clock and orders nothing. */
export const NewEntry = z.object({ number: z.int().positive(), at: z.iso.datetime({ offset: true }), body: EntryBody })
export type NewEntry = z.infer<typeof NewEntry>

export const Entry = NewEntry.extend({
  run_id: RunId,
  execution_id: z.uuid(),
  execution_number: z.int(),
  /** Where it stands in the run: sorts as text, is given back as `before` and `after`. */
  position: z.string(),
  /** Present when `body` is only the head; the whole is at `entries/{position}`. */
  cut: z.object({ bytes: z.int() }).optional(),
})
export type Entry = z.infer<typeof Entry>

/** `offset`: characters of this text that went before, so that a late reader sees that it missed some. */
export const Delta = z.object({
  kind: z.enum(['text', 'thought', 'output']),
  stream: z.enum(['stdout', 'stderr']).optional(),
  text: z.string().max(65_536),
  offset: z.int().nonnegative(),
  /** The number that the entry will have. */
  number: z.int().positive(),
})
export type Delta = z.infer<typeof Delta>

/** An address that is signed and expires; it takes no other credentials. */
export const SignedDownload = z.object({ download_url: z.string(), expires_at: Timestamp })
export type SignedDownload = z.infer<typeof SignedDownload>

const RunPath = z.object({ run_id: RunId })

export const transcriptRoutes = {
  list: route({
    name: 'transcripts.list',
    method: 'GET',
    path: '/agent/runs/{run_id}/entries',
    tag: 'Transcripts',
    callers: ['user', 'execution'],
    summary: 'A window of the transcript, in order (ours). Without `after` or `before`: the last entries.',
    params: RunPath,
    query: z.object({
      after: z.string().max(64).optional(),
      before: z.string().max(64).optional(),
      limit: queryNumber(1, 500).default(50),
    }),
    answer: z.object({ entries: z.array(Entry), has_earlier: z.boolean(), has_later: z.boolean() }),
  }),
  get: route({
    name: 'transcripts.get',
    method: 'GET',
    path: '/agent/runs/{run_id}/entries/{position}',
    tag: 'Transcripts',
    callers: ['user', 'execution'],
    summary: 'One entry, whole (ours).',
    params: RunPath.extend({ position: z.string().max(64) }),
    answer: Entry,
  }),
  download: route({
    name: 'transcripts.download',
    method: 'GET',
    path: '/agent/runs/{run_id}/transcript',
    tag: 'Transcripts',
    callers: ['user', 'execution'],
    summary: 'The whole transcript of a run: an address that serves it for a while, an entry on each line (NDJSON).',
    params: RunPath,
    answer: SignedDownload,
    status: 302,
  }),
}
