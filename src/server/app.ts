/** The HTTP application: every route of the contract, the documents that describe them, and the web page. */
import type { HttpBindings } from '@hono/node-server'
import { type Context, Hono } from 'hono'
import { API_PREFIX, Fault, type Route, WORKER_SOCKET_PATH } from '../contract/index.ts'
import { UPLOAD_PATH } from '../engine/uploads.ts'
import { type Answer, isSecure, respond } from './answers.ts'
import {
  ATTACHMENT_PATH,
  CONVERSATION_FILE_PATH,
  DOWNLOAD_PATH,
  sendAttachment,
  sendConversationFile,
  sendDownload,
  sendTranscript,
  TRANSCRIPT_PATH,
} from './downloads.ts'
import { checkHost } from './hosts.ts'
import { DISCOVERY_PATH, discovery, JWKS_PATH, jwks } from './issuer.ts'
import { MCP_PATH, mountMcp } from './mcp/mount.ts'
import { once } from './once.ts'
import { allRoutes, renderOpenApi } from './openapi.ts'
import { findPage, PAGE_HEADERS } from './pages.ts'
import { faultOf, renderFault, traceOf } from './problems.ts'
import { renderReference } from './reference.ts'
import type { ServerRoom } from './room.ts'
import { accessAnswers } from './routes/access.ts'
import { agentAnswers } from './routes/agents.ts'
import { apiKeyAnswers } from './routes/api-keys.ts'
import { artifactAnswers } from './routes/artifacts.ts'
import { attachmentAnswers } from './routes/attachments.ts'
import { batchAnswers } from './routes/batches.ts'
import { conversationAnswers, harnessConversationAnswers } from './routes/conversations.ts'
import { environmentAnswers } from './routes/environments.ts'
import { eventAnswers } from './routes/events.ts'
import { executionAnswers } from './routes/executions.ts'
import { federationAnswers } from './routes/federation.ts'
import { harnessSupportAnswers } from './routes/harness-support.ts'
import { identityAnswers } from './routes/identities.ts'
import { memoryAnswers } from './routes/memory.ts'
import { messageAnswers } from './routes/messages.ts'
import { modelAnswers } from './routes/models.ts'
import { planAnswers } from './routes/plans.ts'
import { runAnswers } from './routes/runs.ts'
import { scheduleAnswers } from './routes/schedules.ts'
import { secretAnswers } from './routes/secrets.ts'
import { teamAnswers } from './routes/team.ts'
import { teamsAnswers } from './routes/teams.ts'
import { transcriptAnswers } from './routes/transcripts.ts'
import { treeAnswers } from './routes/trees.ts'
import { workerAnswers } from './routes/workers.ts'
import { SESSION_PATH } from './session-links.ts'
import { receiveUpload } from './uploads.ts'

type Env = { Bindings: HttpBindings; Variables: { trace_id: string } }

export function makeApp(room: ServerRoom, web_dir: string | null, closing: AbortSignal): Hono<Env> {
  const answers = [
    accessAnswers,
    runAnswers,
    executionAnswers,
    transcriptAnswers,
    conversationAnswers,
    harnessConversationAnswers,
    eventAnswers,
    workerAnswers,
    messageAnswers,
    teamAnswers,
    teamsAnswers,
    apiKeyAnswers,
    treeAnswers,
    batchAnswers,
    artifactAnswers,
    attachmentAnswers,
    planAnswers,
    harnessSupportAnswers,
    environmentAnswers,
    identityAnswers,
    memoryAnswers,
    secretAnswers,
    federationAnswers,
    scheduleAnswers,
    agentAnswers,
    modelAnswers,
  ].flatMap((make) => make(room))
  checkComplete(answers)
  const app = new Hono<Env>()
  app.use(async (c, next) => {
    const began = performance.now()
    c.set('trace_id', traceOf(c.req.header('traceparent')))
    checkHost(c.env.incoming.headers, room.host, room.public_hosts)
    await next()
    c.header('x-baton-version', room.version)
    logRequest(room, c, performance.now() - began)
  })
  for (const answer of answers) {
    for (const path of pathsOf(answer.route)) {
      app.on(answer.route.method, path.replace(/\{(\w+)\}/g, ':$1'), (c) =>
        respond(room, answer, {
          incoming: c.env.incoming,
          outgoing: c.env.outgoing,
          params: c.req.param(),
          search: searchOf(c.env.incoming.url),
          trace_id: c.get('trace_id'),
        }),
      )
    }
  }
  app.all(MCP_PATH, mountMcp(room, closing))
  app.get(`${DOWNLOAD_PATH}:artifact_uid`, (c) =>
    sendDownload(room, c.env.incoming, { artifact_uid: c.req.param('artifact_uid'), query: c.req.query() }),
  )
  app.get(`${TRANSCRIPT_PATH}:run_id`, (c) =>
    sendTranscript(room, { run_id: c.req.param('run_id'), query: c.req.query() }),
  )
  app.get(`${CONVERSATION_FILE_PATH}:upload_id`, (c) =>
    sendConversationFile(room, c.env.incoming, { upload_id: c.req.param('upload_id'), query: c.req.query() }),
  )
  app.get(`${ATTACHMENT_PATH}:upload_id`, (c) =>
    sendAttachment(room, c.env.incoming, { upload_id: c.req.param('upload_id'), query: c.req.query() }),
  )
  app.on(['PUT', 'POST'], `${UPLOAD_PATH}:upload_id`, (c) =>
    receiveUpload(room, c.env.incoming, { upload_id: c.req.param('upload_id'), query: c.req.query() }),
  )
  app.get(SESSION_PATH, (c) => c.redirect(`/runs/${encodeURIComponent(c.req.param('run_id'))}`))
  app.get(DISCOVERY_PATH, (c) => discovery(room, c.env.incoming.headers, isSecure(c.env.incoming)))
  app.get(JWKS_PATH, () => jwks(room))
  app.get(WORKER_SOCKET_PATH, () => {
    throw new Fault('invalid_request', 'Workers connect here, by WebSocket: `baton worker`.', {
      status: 426,
      headers: { upgrade: 'websocket', connection: 'upgrade' },
    })
  })
  mountGreetings(app, room)
  mountDocuments(app)
  app.get('*', async (c) => {
    if (c.req.path.startsWith('/api/')) return refuseUnknown(c)
    const page = await findPage(web_dir, {
      path: c.req.path,
      accept: c.req.header('accept') ?? '',
      if_none_match: c.req.header('if-none-match'),
    })
    return page === null ? refuseUnknown(c) : new Response(page.body, page)
  })
  app.notFound((c) => refuseUnknown(c))
  app.onError((thrown, c) => {
    const trace_id = c.get('trace_id') ?? traceOf(undefined)
    const { status, headers, body } = renderFault(faultOf(thrown, trace_id, room.log), trace_id, c.req.path)
    // What is left of a body that was refused is not read: the connection ends with the answer.
    const unread = !c.env.incoming.complete ? { connection: 'close' } : {}
    return new Response(body, { status, headers: { ...headers, ...unread } })
  })
  return app

  /** Another method's route: 405 and what it allows; no route at all: 404. */
  function refuseUnknown(c: Context<Env>): never {
    const allowed = allRoutes()
      .filter((route) => pathsOf(route).some((path) => matches(path, c.req.path)))
      .map((route) => route.method)
    if (allowed.length === 0) {
      throw new Fault('resource_not_found', `There is nothing at ${c.req.path}. The API is described at /reference.`)
    }
    throw new Fault(
      'invalid_request',
      `${c.req.method} is not allowed at ${c.req.path}; ${allowed.join(' and ')} ${allowed.length === 1 ? 'is' : 'are'}.`,
      { status: 405, headers: { allow: allowed.join(', ') } },
    )
  }
}

const pathsOf = (route: Route): string[] => [route.path, ...(route.aliases ?? [])].map((path) => API_PREFIX + path)

/** A route that nobody answers, or that two answer, is a bug that must not wait for its first caller. */
function checkComplete(answers: Answer[]): void {
  for (const route of allRoutes()) {
    const found = answers.filter((answer) => answer.route === route).length
    if (found !== 1)
      throw new Error(`Route ${route.name} is answered ${found} times; every route of the contract is answered once.`)
  }
}

function matches(pattern: string, path: string): boolean {
  const parts = pattern.split('/')
  const given = path.split('/')
  return (
    parts.length === given.length &&
    parts.every((part, at) => (part.startsWith('{') ? given[at] !== '' : part === given[at]))
  )
}

const searchOf = (url: string | undefined): string => {
  const at = url?.indexOf('?') ?? -1
  return at < 0 ? '' : (url ?? '').slice(at + 1)
}

/** What clients of Oz ask of the root before they know anybody: what time it is here, and to be noticed. */
function mountGreetings(app: Hono<Env>, { clock }: ServerRoom): void {
  const reply = (body: object) => Response.json(body, { headers: { 'cache-control': 'no-store' } })
  app.get('/current_time', () => reply({ current_time: clock.now().toISOString() }))
  app.post('/client/login', () => reply({}))
}

/** Rendered when first asked for: it takes longer than everything else that a server does to start. */
function mountDocuments(app: Hono<Env>): void {
  const openapi = once(() => JSON.stringify(renderOpenApi()))
  const reference = once(() => renderReference(renderOpenApi()))
  const reply = (type: string, body: string) =>
    new Response(body, { headers: { ...PAGE_HEADERS, 'content-type': type, 'cache-control': 'no-cache' } })
  app.get('/openapi.json', () => reply('application/json', openapi()))
  app.get('/reference', () => reply('text/html; charset=utf-8', reference().html))
  app.get('/reference.css', () => reply('text/css; charset=utf-8', reference().css))
}

/** What was refused is of interest, what went well only to who looks for it; bugs were logged before. */
function logRequest({ log }: ServerRoom, c: Context<Env>, ms: number): void {
  const { status } = c.res
  const fields = {
    method: c.req.method,
    path: c.req.path,
    status,
    ms: Math.round(ms * 10) / 10,
    trace_id: c.get('trace_id'),
  }
  if (status >= 400) log.info(fields, 'request.refused')
  else log.debug(fields, 'request.answered')
}
