/**
 * Messages: letters from one run to another's inbox. Each recipient has its own row: accepted, then delivered
 * (surfaced to the agent), and read (its body was fetched), which may come in either order. Nothing is "sent"
 * without a row.
 */
import { z } from 'zod'
import { Nothing, QueryBoolean, queryNumber, route } from './route.ts'
import { AskedTime, RunId, Timestamp } from './run-states.ts'
import { UserProfile } from './runs.ts'

export const SUBJECT_CHARACTERS_MAX = 1024
export const BODY_BYTES_MAX = 131_072
export const RECIPIENTS_MAX = 100

/** Of a message, in UTF-8. */
export const isBodySize = (text: string): boolean => new TextEncoder().encode(text).length <= BODY_BYTES_MAX

const Body = z
  .string()
  .refine(isBodySize, `A body is at most ${BODY_BYTES_MAX} bytes.`)
  .refine((b) => !b.includes('\0'), 'A body has no NUL byte.')

export const SendMessage = z.object({
  to: z.array(RunId).min(1).max(RECIPIENTS_MAX),
  subject: z.string().max(SUBJECT_CHARACTERS_MAX),
  body: Body,
  /** The run in whose name it is sent; an execution sends in its own. Absent: that of the acting run's header, else the
   * person who asks. */
  sender_run_id: RunId.nullish(),
  /** Ours: may interrupt a running turn. */
  urgent: z.boolean().optional(),
})
export type SendMessage = z.infer<typeof SendMessage>

export const MessageHeader = z.object({
  message_id: z.uuid(),
  /** Empty: a person's, which Oz has not. */
  sender_run_id: z.string(),
  subject: z.string(),
  sent_at: Timestamp,
  delivered_at: Timestamp.nullable(),
  read_at: Timestamp.nullable(),
})
export type MessageHeader = z.infer<typeof MessageHeader>

export const Message = MessageHeader.extend({ body: z.string() })
export type Message = z.infer<typeof Message>

/** A message as a person reads it beside its run. */
export const Letter = MessageHeader.extend({
  sender_run_id: RunId.nullable(),
  recipient_run_id: RunId,
  /** The run or person it is from, and the run it is to. */
  sender_name: z.string(),
  /** Who sent it that is no run: a person, or an agent by its key; null: a run. */
  sender: UserProfile.nullable(),
  recipient_name: z.string(),
  urgent: z.boolean(),
})
export type Letter = z.infer<typeof Letter>

const MessagePath = z.object({ message_id: z.uuid() })

export const messageRoutes = {
  send: route({
    name: 'messages.send',
    method: 'POST',
    idempotent: true,
    path: '/agent/messages',
    tag: 'Messages',
    callers: ['user', 'execution'],
    summary:
      'Send a message to one or more runs, all or none. A run that has ended wakes. An Idempotency-Key is honoured.',
    body: SendMessage,
    answer: z.object({ message_ids: z.array(z.uuid()) }),
  }),
  list: route({
    name: 'messages.list',
    method: 'GET',
    path: '/agent/messages/{run_id}',
    tag: 'Messages',
    callers: ['user', 'execution'],
    summary: 'Headers of the messages to a run, oldest first.',
    params: z.object({ run_id: RunId }),
    query: z.object({
      limit: queryNumber(1, 100).default(50),
      unread: QueryBoolean.optional(),
      since: AskedTime.optional(),
    }),
    answer: z.array(MessageHeader),
  }),
  read: route({
    name: 'messages.read',
    method: 'POST',
    path: '/agent/messages/{message_id}/read',
    tag: 'Messages',
    callers: ['user', 'execution'],
    summary: 'One message, whole; marks it as read.',
    params: MessagePath,
    answer: Message,
  }),
  mailbox: route({
    name: 'messages.mailbox',
    method: 'GET',
    path: '/agent/runs/{run_id}/messages',
    tag: 'Messages',
    callers: ['user'],
    summary: 'Headers of the last messages to and from a run, oldest first (ours). `before`: those before that one.',
    params: z.object({ run_id: RunId }),
    query: z.object({
      limit: queryNumber(1, 500).default(100),
      before: z.uuid().optional(),
    }),
    answer: z.object({ messages: z.array(Letter), has_earlier: z.boolean() }),
  }),
  look: route({
    name: 'messages.look',
    method: 'GET',
    path: '/agent/runs/{run_id}/messages/{message_id}',
    tag: 'Messages',
    callers: ['user'],
    summary: 'One message to or from a run, whole, without marking it as read (ours).',
    params: z.object({ run_id: RunId, message_id: z.uuid() }),
    answer: Message,
  }),
  delivered: route({
    name: 'messages.delivered',
    method: 'POST',
    path: '/agent/messages/{message_id}/delivered',
    tag: 'Messages',
    callers: ['user', 'execution'],
    summary: 'Marks a message as delivered, once; repeating it changes nothing.',
    params: MessagePath,
    answer: Nothing,
    status: 204,
  }),
}
