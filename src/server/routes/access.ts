import { sql } from 'kysely'
import { accessRoutes, Fault, SESSION_COOKIE } from '../../contract/index.ts'
import { type Answer, mount, mountOpen } from '../answers.ts'
import { asUser, readCookie, sessionCookie } from '../callers.ts'
import type { ServerRoom } from '../room.ts'

/** The longest that the health check waits for PostgreSQL, in milliseconds. */
const HEALTH_MS = 2_000

export function accessAnswers(room: ServerRoom): Answer[] {
  const { engine, wrong_keys } = room
  return [
    mountOpen(accessRoutes.health, async ({ setStatus }) => {
      const ready = await databaseAnswers(room)
      const { version, server_id } = room
      if (ready) return { status: 'ok' as const, version, server_id, database: 'ready' as const }
      setStatus(503)
      return { status: 'unavailable' as const, version, server_id, database: 'unavailable' as const }
    }),
    mount(accessRoutes.whoami, ({ caller }) => engine.access.whoami(caller)),
    mount(accessRoutes.rename, ({ caller, body }) => engine.access.rename(caller, body)),
    mountOpen(accessRoutes.signIn, async ({ body, address, is_secure, setHeader }) => {
      wrong_keys.refuse(address)
      const session = await engine.access.signIn(body).catch((thrown: unknown) => {
        if (thrown instanceof Fault && thrown.code === 'authentication_required') wrong_keys.count(address)
        throw thrown
      })
      setHeader('set-cookie', sessionCookie(session.secret, session.expires_at, is_secure))
      return engine.access.whoami(session.caller)
    }),
    mount(accessRoutes.signOut, async ({ headers, is_secure, setHeader }) => {
      const secret = readCookie(headers.cookie, SESSION_COOKIE)
      if (secret !== undefined) await engine.access.signOut(secret)
      setHeader('set-cookie', sessionCookie('', new Date(0), is_secure))
      return {}
    }),
    mount(accessRoutes.createLoginCode, ({ caller }) => engine.access.createLoginCode(asUser(caller))),
  ]
}

async function databaseAnswers({ database, log }: ServerRoom): Promise<boolean> {
  const late = new Promise<false>((resolve) => setTimeout(resolve, HEALTH_MS, false).unref())
  const asked = sql`select 1`.execute(database.kysely).then(
    () => true,
    (error: unknown) => {
      log.warn({ reason: error instanceof Error ? error.message : '' }, 'health.database_unavailable')
      return false
    },
  )
  return Promise.race([asked, late])
}
