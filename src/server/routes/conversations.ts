import { conversationRoutes, harnessConversationRoutes, transcriptRoutes } from '../../contract/index.ts'
import { actingExecution } from '../acting.ts'
import { type Answer, mount, mountOpen, mountRedirect } from '../answers.ts'
import { CONVERSATION_FILE_PATH, rootOf, TRANSCRIPT_PATH } from '../downloads.ts'
import type { ServerRoom } from '../room.ts'

export function conversationAnswers({ engine }: ServerRoom): Answer[] {
  const { conversations, conversationFiles, transcripts } = engine
  return [
    mount(conversationRoutes.ofRun, ({ caller, params }) => conversations.ofRun(caller, params.run_id)),
    mount(conversationRoutes.get, ({ caller, params }) => conversations.read(caller, params.conversation_id)),
    mount(conversationRoutes.fork, ({ caller, params, body }) =>
      conversations.fork(caller, params.conversation_id, body.title ?? undefined),
    ),
    mount(conversationRoutes.rename, ({ caller, params, body }) =>
      conversations.rename(caller, params.conversation_id, body.title),
    ),
    mountRedirect(conversationRoutes.blockSnapshot, ({ caller, params, headers, is_secure }) =>
      conversationFiles.sign(caller, {
        ...params,
        kind: 'conversation_block',
        root: rootOf(headers, is_secure) + CONVERSATION_FILE_PATH,
      }),
    ),
    mountOpen(conversationRoutes.session, ({ params }) => conversations.sessionOf(params.conversation_id)),
    mountOpen(conversationRoutes.ofSession, ({ params }) => conversations.ofSession(params.session_id)),
    mountRedirect(transcriptRoutes.download, async ({ caller, params, headers, is_secure }) => {
      const root = rootOf(headers, is_secure)
      const conversation_id = await conversations.foreignTranscript(caller, params.run_id)
      if (conversation_id === null) return transcripts.sign(caller, params.run_id, root + TRANSCRIPT_PATH)
      const kind = 'conversation_transcript'
      return conversationFiles.sign(caller, { conversation_id, kind, root: root + CONVERSATION_FILE_PATH })
    }),
  ]
}

export function harnessConversationAnswers({ engine }: ServerRoom): Answer[] {
  const { conversations, conversationFiles } = engine
  return [
    mount(harnessConversationRoutes.external, ({ caller, body, headers }) =>
      conversations.bind(actingExecution(caller, headers), body.format),
    ),
    mount(harnessConversationRoutes.uploadTranscript, ({ caller, body, headers, is_secure }) => {
      const upload = { ...body, kind: 'conversation_transcript' as const, root: rootOf(headers, is_secure) }
      return conversationFiles.prepare(actingExecution(caller, headers), upload)
    }),
    mountRedirect(harnessConversationRoutes.transcript, ({ caller, headers, is_secure }) =>
      conversationFiles.signOwn(
        actingExecution(caller, headers),
        'conversation_transcript',
        rootOf(headers, is_secure) + CONVERSATION_FILE_PATH,
      ),
    ),
    mount(harnessConversationRoutes.blockSnapshot, ({ caller, body, headers, is_secure }) => {
      const upload = { ...body, kind: 'conversation_block' as const, root: rootOf(headers, is_secure) }
      return conversationFiles.prepare(actingExecution(caller, headers), upload)
    }),
    mount(harnessConversationRoutes.resolvePrompt, ({ caller, body, headers }) =>
      conversations.resolvePrompt(actingExecution(caller, headers), body),
    ),
  ]
}
