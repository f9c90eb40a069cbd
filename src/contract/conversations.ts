/**
 * Conversations: what was said and done, normalized over harnesses, as the public Oz API has it; continued by several
 * runs, forked, renamed.
 *
 * A step is one execution of a run, in order. Steps within it are its sub-agents: those that the harness started
 * itself, and child runs.
 */
import { z } from 'zod'
import { route } from './route.ts'
import { RunId, Timestamp } from './run-states.ts'
import { ToolCategory } from './tool-categories.ts'
import { SignedDownload } from './transcripts.ts'
import { UploadTarget } from './uploads.ts'

/** What is larger is not normalized, and read from the transcript; of one entry at most 64 KiB count. */
export const CONVERSATION_ENTRIES_MAX = 20_000
export const CONVERSATION_BYTES_MAX = 16 * 1024 * 1024
/** Longer text is cut here, in UTF-16 units; a mark at its end says how much is missing and where the whole is. */
export const CONVERSATION_TEXT_LENGTH_MAX = 32 * 1024
/** Child runs that are shown as steps; of more an event says so. */
export const CONVERSATION_CHILDREN_MAX = 200

export const TITLE_LENGTH_MAX = 512

export const Block = z.discriminatedUnion('type', [
  z.object({ type: z.literal('text'), text: z.string(), message_id: z.string().optional() }),
  z.object({ type: z.literal('action'), id: z.string(), category: ToolCategory, name: z.string(), input: z.unknown() }),
  z.object({
    type: z.literal('action_result'),
    action_id: z.string(),
    category: ToolCategory,
    name: z.string(),
    state: z.enum(['running', 'completed', 'failed', 'denied']),
    output: z.unknown(),
  }),
  z.object({ type: z.literal('event'), name: z.string(), data: z.unknown() }),
])
export type Block = z.infer<typeof Block>

export const ConversationMessage = z.object({
  message_ids: z.array(z.string()).optional(),
  request_id: z.string().optional(),
  role: z.enum(['user', 'assistant', 'tool', 'system']),
  timestamp: Timestamp.optional(),
  content: z.array(Block),
})
export type ConversationMessage = z.infer<typeof ConversationMessage>

export const ConversationStep = z.object({
  id: z.string(),
  description: z.string().optional(),
  summary: z.string().optional(),
  started_at: Timestamp.optional(),
  completed_at: Timestamp.optional(),
  messages: z.array(ConversationMessage),
  get steps(): z.ZodArray<typeof ConversationStep> {
    return z.array(ConversationStep)
  },
})
export type ConversationStep = z.infer<typeof ConversationStep>

export const Conversation = z.object({ conversation_id: z.string(), steps: z.array(ConversationStep) })
export type Conversation = z.infer<typeof Conversation>

/** What foreign harnesses write their own transcripts in. */
export const CONVERSATION_FORMATS = ['claude_code_cli', 'codex_cli', 'gemini_cli'] as const

const TAG = 'Conversations'
export const ConversationPath = z.object({ conversation_id: z.uuid() })
const Title = z.string().trim().min(1).max(TITLE_LENGTH_MAX)

export const conversationRoutes = {
  ofRun: route({
    name: 'conversations.ofRun',
    method: 'GET',
    path: '/agent/runs/{run_id}/conversation',
    tag: TAG,
    callers: ['user', 'execution'],
    summary: 'The conversation of a run, normalized over harnesses; with what other runs went on with.',
    params: z.object({ run_id: RunId }),
    answer: Conversation,
  }),
  get: route({
    name: 'conversations.get',
    method: 'GET',
    path: '/agent/conversations/{conversation_id}',
    tag: TAG,
    callers: ['user', 'execution'],
    summary: 'A conversation, normalized over harnesses: that of every run which went on with it.',
    params: ConversationPath,
    answer: Conversation,
  }),
  fork: route({
    name: 'conversations.fork',
    method: 'POST',
    path: '/agent/conversations/{conversation_id}/fork',
    tag: TAG,
    callers: ['user'],
    summary: 'A new conversation that begins with what this one has now. Neither sees what the other gets later.',
    params: ConversationPath,
    body: z.object({ title: Title.nullish() }),
    answer: z.object({ forked_conversation_id: z.string() }),
  }),
  rename: route({
    name: 'conversations.rename',
    method: 'POST',
    path: '/agent/conversations/{conversation_id}/rename',
    tag: TAG,
    callers: ['user'],
    summary: 'Give a conversation, and the runs that are its, another title.',
    params: ConversationPath,
    body: z.object({ title: Title }),
    answer: z.object({ title: z.string() }),
  }),
  blockSnapshot: route({
    name: 'conversations.block_snapshot',
    method: 'GET',
    path: '/agent/conversations/{conversation_id}/block-snapshot',
    tag: TAG,
    callers: ['user', 'execution'],
    summary: "The last of a foreign harness's terminal, as it was uploaded: an address that serves it for a while.",
    params: ConversationPath,
    answer: SignedDownload,
    status: 302,
  }),
  session: route({
    name: 'conversations.session',
    method: 'GET',
    path: '/agent/conversations/{conversation_id}/redirect',
    tag: TAG,
    callers: [],
    summary: 'The session in which a conversation went on last; without credentials, and telling nothing else.',
    params: z.object({ conversation_id: z.string().max(128) }),
    answer: z.object({ session_id: z.string().optional() }),
  }),
  ofSession: route({
    name: 'conversations.ofSession',
    method: 'GET',
    path: '/agent/sessions/{session_id}/redirect',
    tag: TAG,
    callers: [],
    summary: 'The conversation that a session is of; without credentials, and telling nothing else.',
    params: z.object({ session_id: z.string().max(256) }),
    answer: z.object({ conversation_id: z.string().optional() }),
  }),
}

const SUPPORT_TAG = 'Harness support'
const OwnConversation = z.object({ conversation_id: z.uuid() })

export const ResolvePrompt = z.object({
  skill: z
    .object({
      name: z.string().min(1).max(256),
      content: z.string().max(1024 * 1024),
      path: z.string().max(4096).nullish(),
    })
    .nullish(),
  /** Where the files that came with the run lie in the sandbox. */
  attachments_dir: z.string().max(4096).nullish(),
})
export type ResolvePrompt = z.infer<typeof ResolvePrompt>

export const ResolvedPrompt = z.object({
  prompt: z.string(),
  system_prompt: z.string().optional(),
  /** Goes before the prompt where the harness goes on with its own transcript of the conversation. */
  resumption_prompt: z.string().optional(),
  /** The same where it does not: what was said and done before. */
  context: z.string().optional(),
})
export type ResolvedPrompt = z.infer<typeof ResolvedPrompt>

/** What a foreign harness keeps of the conversation of its run. The execution's token says which run that is. */
export const harnessConversationRoutes = {
  external: route({
    name: 'harness_support.external_conversation',
    method: 'POST',
    path: '/harness-support/external-conversation',
    tag: SUPPORT_TAG,
    callers: ['execution'],
    summary: "The run's conversation, and the format in which the harness keeps a transcript of its own.",
    body: z.object({ format: z.enum(CONVERSATION_FORMATS) }),
    answer: z.object({ conversation_id: z.string() }),
  }),
  uploadTranscript: route({
    name: 'harness_support.upload_transcript',
    method: 'POST',
    path: '/harness-support/transcript',
    tag: SUPPORT_TAG,
    callers: ['execution'],
    summary: "Where to send the harness's own transcript; the newest one counts.",
    body: OwnConversation,
    answer: UploadTarget,
  }),
  transcript: route({
    name: 'harness_support.transcript',
    method: 'GET',
    path: '/harness-support/transcript',
    tag: SUPPORT_TAG,
    callers: ['execution'],
    summary: "The harness's own transcript, as it was last sent, also by an earlier run of the conversation.",
    answer: SignedDownload,
    status: 302,
  }),
  blockSnapshot: route({
    name: 'harness_support.block_snapshot',
    method: 'POST',
    path: '/harness-support/block-snapshot',
    tag: SUPPORT_TAG,
    callers: ['execution'],
    summary: "Where to send the last of the harness's terminal; the newest one counts.",
    body: OwnConversation,
    answer: UploadTarget,
  }),
  resolvePrompt: route({
    name: 'harness_support.resolve_prompt',
    method: 'POST',
    path: '/harness-support/resolve-prompt',
    tag: SUPPORT_TAG,
    callers: ['execution'],
    summary: 'What the harness is to be told when it begins.',
    body: ResolvePrompt,
    answer: ResolvedPrompt,
  }),
}
