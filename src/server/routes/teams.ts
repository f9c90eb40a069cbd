import { Fault, teamEndRoutes, teamsRoutes } from '../../contract/index.ts'
import type { Caller } from '../../engine/caller.ts'
import { type Answer, type Ask, mount, mountOpen } from '../answers.ts'
import { checkCookieUse, identify, sessionCookie, shownBy } from '../callers.ts'
import { rootOf } from '../downloads.ts'
import type { ServerRoom } from '../room.ts'

export function teamsAnswers(room: ServerRoom): Answer[] {
  const { engine, wrong_keys } = room
  const { teams, departures, teamDeletion } = engine
  return [
    mount(teamsRoutes.list, ({ caller }) => teams.list(caller)),
    mount(teamsRoutes.create, ({ caller, body }) => teams.create(caller, body)),
    mount(teamsRoutes.get, ({ caller, params }) => teams.get(caller, params.team_id)),
    mount(teamsRoutes.update, ({ caller, params, body }) => teams.rename(caller, params.team_id, body)),
    mount(teamsRoutes.members, ({ caller }) => teams.members(caller)),
    mount(teamsRoutes.changeRole, ({ caller, params, body }) => teams.changeRole(caller, params.user_id, body)),
    mount(teamEndRoutes.removeMember, ({ caller, params }) => departures.remove(caller, params.user_id)),
    mount(teamEndRoutes.leave, ({ caller, params, body }) => departures.leave(caller, params.team_id, body)),
    mount(teamEndRoutes.transfer, ({ caller, params, body }) => departures.transfer(caller, params.team_id, body)),
    mount(teamEndRoutes.contents, ({ caller, params }) => teamDeletion.contents(caller, params.team_id)),
    mount(teamEndRoutes.delete, ({ caller, params, query }) => teamDeletion.delete(caller, params.team_id, query)),
    mountOpen(teamEndRoutes.restore, async ({ body, address }) => {
      wrong_keys.refuse(address)
      return teamDeletion.restore(body.code).catch((thrown: unknown) => {
        if (thrown instanceof Fault && thrown.code === 'authentication_required') wrong_keys.count(address)
        throw thrown
      })
    }),
    mount(teamsRoutes.invites, ({ caller }) => teams.invites(caller)),
    mount(teamsRoutes.invite, async ({ caller, body, headers, is_secure }) => {
      const made = await teams.invite(caller, body)
      // After the #, so that no log of a proxy has it.
      return { ...made, link: `${rootOf(headers, is_secure)}/login#invite=${made.code}` }
    }),
    mount(teamsRoutes.revokeInvite, ({ caller, params }) => teams.revokeInvite(caller, params.invite_id)),
    mountOpen(teamsRoutes.join, async (ask) => {
      const { body, address, is_secure, setHeader } = ask
      wrong_keys.refuse(address)
      const { joined, user_id } = await teams.join(await askerOf(room, ask), body).catch((thrown: unknown) => {
        if (thrown instanceof Fault && thrown.code === 'authentication_required') wrong_keys.count(address)
        throw thrown
      })
      if (body.with === 'session') {
        const opened = await engine.access.openSession({ team_id: joined.team.team_id, user_id, key_id: null })
        setHeader('set-cookie', sessionCookie(opened.secret, opened.expires_at, is_secure))
      }
      return joined
    }),
  ]
}

/** Who joins, where he shows it; the cookie counts only from our own page. */
async function askerOf(room: ServerRoom, ask: Pick<Ask<never, never, never>, 'headers' | 'address'>) {
  if (shownBy(ask.headers) === null) return null
  const asker = { headers: ask.headers, address: ask.address, method: 'POST' }
  const caller: Caller = await identify(room.known, room.wrong_keys, asker)
  checkCookieUse(caller, asker, false, room.public_hosts)
  return caller
}
