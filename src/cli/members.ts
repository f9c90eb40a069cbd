/** Members of a team, as people name them. */
import type { Member } from '../contract/index.ts'
import { type Context, clientOf } from './context.ts'
import { pickNamed } from './named.ts'

/** By user id, e-mail address or name. */
export async function findMember(context: Context, asked: string): Promise<Member> {
  const { members } = await clientOf(context).teams.members({ signal: context.signal })
  const all = members.map((member) => ({ ...member, uid: member.user_id }))
  const by_email = all.filter(({ email }) => email?.toLowerCase() === asked.trim().toLowerCase())
  const [only, ...others] = by_email
  if (only && others.length === 0) return only
  return pickNamed('member', all, asked, ({ display_name }) => display_name)
}
