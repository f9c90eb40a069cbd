/**
 * Skills as agents: what the repositories of the caller's environments offer. A repository is read by one server at a
 * time, and what was found is a row, so that every server answers from it at once.
 */
import { createHash } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import { type Selectable, sql } from 'kysely'
import { z } from 'zod'
import {
  Fault,
  FrozenEnvironment,
  type ListAgents,
  makeRedactor,
  ownerAndName,
  type SkillAgent,
  type SkillRepository,
  type SkillVariant,
} from '../contract/index.ts'
import type { Secrets, SkillRepositories } from '../db/tables.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'
import { reachableBy } from './secret-giving.ts'
import { openValue } from './secret-opening.ts'
import { isOfGitHub, ReadingFailed, type SkillSource } from './skill-reader.ts'
import { visibleRuns, visibleTo } from './visible.ts'

/** What was read before that is read again while the old is answered. */
const STALE_MS = 10 * 60_000
/** The longest that a caller waits for what was never read, or for `refresh`. */
const PATIENCE_MS = 25_000
/** A server that reads has this long until another may. */
const LEASE_MS = 90_000
const READINGS_MAX = 4
/** Rows that nobody asked for in so long go. */
const FORGET_MS = 30 * 24 * 60 * 60_000
/** Variables and secrets of an environment that hold a login for github.com, as CI services call them. */
const GITHUB_TOKENS = ['GITHUB_ACCESS_TOKEN', 'GITHUB_TOKEN', 'GH_TOKEN']

const Skills = z.array(
  z.object({
    path: z.string(),
    name: z.string(),
    description: z.string(),
    instructions: z.string(),
    problem: z.string().optional(),
  }),
)

type Place = SkillSource & {
  repository_key: string
  /** Holds the login, where no variable does; opened when it is needed, by whoever reads. */
  secret: Token | null
  owner: string
  name: string
  environments: { uid: string; name: string }[]
}
type Token = Pick<Selectable<Secrets>, 'secret_uid' | 'name' | 'version' | 'owner_user_id' | 'environment_uid'>
type Row = Selectable<SkillRepositories>

export function agentsEngine(room: Room) {
  const { clock } = room
  const db = room.database.kysely
  const readSkills = room.skills ?? refuseToRead
  const reading = new Map<string, Promise<void>>()
  const turns: (() => void)[] = []
  let at_work = 0

  async function list(
    caller: Caller,
    asked: ListAgents,
  ): Promise<{ agents: SkillAgent[]; repositories: SkillRepository[] }> {
    const places = narrowed(await placesOf(caller), asked.repo)
    const before = await rowsOf(caller, places)
    const now = clock.now()
    const isStale = (row: Row) => row.tried_at === null || now.getTime() - row.tried_at.getTime() > STALE_MS
    const stale = places.filter(({ repository_key }) => {
      const row = before.get(repository_key)
      return asked.refresh || row === undefined || isStale(row)
    })
    const waited = stale.filter(({ repository_key }) => asked.refresh || !before.get(repository_key)?.tried_at)
    const readings = new Map(stale.map((place) => [place.repository_key, refresh(place)]))
    await within(waited.map(({ repository_key }) => readings.get(repository_key)))
    const rows = stale.length === 0 ? before : await rowsOf(caller, places)
    const agents = await agentsIn(caller, places, rows, asked.include_malformed_skills)
    return {
      agents: agents.sort(asked.sort_by === 'name' ? byName : byLastRun),
      repositories: places.map((place) => repositoryOf(place, rows.get(place.repository_key))),
    }
  }

  async function placesOf(caller: Caller): Promise<Place[]> {
    const environments = await db
      .selectFrom('environments')
      .select(['environment_uid', 'owner_user_id', 'name', 'repositories', 'variables'])
      .where('deleted_at', 'is', null)
      .where(visibleTo(caller, 'environments'))
      .orderBy(sql`lower(name)`)
      .execute()
    const tokens = await tokensOf(caller)
    const places = new Map<string, Place>()
    for (const { environment_uid, owner_user_id, name, ...rest } of environments) {
      const { repositories, variables } = FrozenEnvironment.pick({ repositories: true, variables: true }).parse(rest)
      const github_token = GITHUB_TOKENS.map((one) => variables[one]).find(Boolean) ?? null
      // What the runs of whoever the environment belongs to are given there; a variable hides the secret of its name.
      const own = reachableBy(tokens, { owner_user_id }, environment_uid).filter((one) => !(one.name in variables))
      const [token = null] = github_token === null ? own.toSorted(byTokenName) : []
      for (const { url, ref } of repositories) {
        const secret = isOfGitHub(url) ? token : null
        const login = secret === null ? github_token : [secret.secret_uid, secret.version]
        const repository_key = createHash('sha256')
          .update(JSON.stringify([caller.team_id, url, ref ?? null, login]))
          .digest('hex')
        const place = places.get(repository_key) ?? {
          repository_key,
          url,
          ref,
          github_token,
          secret,
          ...ownerAndName(url),
          environments: [],
        }
        if (place.environments.every(({ uid }) => uid !== environment_uid))
          place.environments.push({ uid: environment_uid, name })
        places.set(repository_key, place)
      }
    }
    return [...places.values()]
  }

  /** What of the team's secrets, and of the caller's own, is called as a login for github.com. */
  function tokensOf(caller: Caller): Promise<Token[]> {
    return db
      .selectFrom('secrets')
      .select(['secret_uid', 'name', 'version', 'owner_user_id', 'environment_uid'])
      .where('name', 'in', GITHUB_TOKENS)
      .where('type', '=', 'raw_value')
      .where('deleted_at', 'is', null)
      .where(visibleTo(caller, 'secrets'))
      .execute()
  }

  /** What was found before; a row for each that is asked for. */
  async function rowsOf({ team_id }: Caller, places: Place[]): Promise<Map<string, Row>> {
    if (places.length === 0) return new Map()
    const asked_at = clock.now()
    // In one order, so that two who ask at once do not wait for each other.
    const keys = places.map(({ repository_key }) => repository_key).sort()
    const values = keys.map((repository_key) => ({ repository_key, team_id, asked_at }))
    const rows = await db
      .insertInto('skill_repositories')
      .values(values)
      .onConflict((conflict) => conflict.column('repository_key').doUpdateSet({ asked_at }))
      .returningAll()
      .execute()
    return new Map(rows.map((row) => [row.repository_key, row]))
  }

  /** Resolves when somebody has read it, here or on another server; never rejects. */
  function refresh(place: Place): Promise<void> {
    const under_way = reading.get(place.repository_key)
    if (under_way) return under_way
    const work = inTurn(() => readOnce(place))
      .catch((error: unknown) => room.log.error({ err: error }, 'skills.reading_failed'))
      .finally(() => reading.delete(place.repository_key))
    reading.set(place.repository_key, work)
    return work
  }

  async function inTurn(work: () => Promise<void>): Promise<void> {
    if (at_work >= READINGS_MAX) await new Promise<void>((resolve) => turns.push(resolve))
    at_work += 1
    try {
      await work()
    } finally {
      at_work -= 1
      turns.shift()?.()
    }
  }

  async function readOnce(place: Place): Promise<void> {
    const { repository_key } = place
    const now = clock.now()
    const taken = await db
      .updateTable('skill_repositories')
      .set({ reading_until: new Date(now.getTime() + LEASE_MS) })
      .where('repository_key', '=', repository_key)
      .where((row) => row.or([row('reading_until', 'is', null), row('reading_until', '<', now)]))
      .returning('head')
      .executeTakeFirst()
    if (!taken) return otherHasRead(repository_key)
    const found = await readWithLogin(place, taken.head).catch((error: unknown) => {
      if (!(error instanceof ReadingFailed)) room.log.error({ err: error, url: place.name }, 'skills.reading_failed')
      return { problem: error instanceof ReadingFailed ? error.message : 'The server could not read it.' }
    })
    const tried_at = clock.now()
    await db
      .updateTable('skill_repositories')
      .set({
        tried_at,
        reading_until: null,
        ...(found !== null && 'problem' in found ? { problem: found.problem } : { problem: null, read_at: tried_at }),
        ...(found !== null && 'head' in found ? { head: found.head, skills: JSON.stringify(found.skills) } : {}),
      })
      .where('repository_key', '=', repository_key)
      .execute()
    await db
      .deleteFrom('skill_repositories')
      .where('asked_at', '<', new Date(tried_at.getTime() - FORGET_MS))
      .execute()
  }

  /** What is found is shown to whoever sees the environment: the login stands in none of it. */
  async function readWithLogin({ secret, ...place }: Place, head: string | null) {
    const github_token = secret === null ? place.github_token : await opened(secret)
    const redactor = makeRedactor(github_token === null ? [] : [github_token])
    try {
      const found = await readSkills({ ...place, github_token }, head)
      return found && { head: found.head, skills: Skills.parse(redactor.deep(found.skills)) }
    } catch (error) {
      throw error instanceof ReadingFailed ? new ReadingFailed(redactor.text(error.message)) : error
    }
  }

  async function opened(secret: Token): Promise<string> {
    try {
      return await openValue(room, secret)
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      throw new ReadingFailed(`The secret ${secret.name}, which opens it, cannot be read. ${error.message}`)
    }
  }

  /** Looks until the other server's lease is over. */
  async function otherHasRead(repository_key: string): Promise<void> {
    for (;;) {
      await wait(250)
      const row = await db
        .selectFrom('skill_repositories')
        .select('reading_until')
        .where('repository_key', '=', repository_key)
        .executeTakeFirst()
      if (!row?.reading_until || row.reading_until < clock.now()) return
    }
  }

  async function agentsIn(
    caller: Caller,
    places: Place[],
    rows: Map<string, Row>,
    with_malformed: boolean,
  ): Promise<SkillAgent[]> {
    const found = places.flatMap((place) => {
      const skills = Skills.parse(rows.get(place.repository_key)?.skills ?? [])
      return skills.filter(({ problem }) => with_malformed || problem === undefined).map((skill) => ({ place, skill }))
    })
    const variants = new Map<string, { agent: string; variant: SkillVariant }>()
    for (const { place, skill } of found) {
      const { owner, name, environments } = place
      const id = `${owner}/${name}:${skill.path}`
      // The same file at two refs, or by two logins, is one to who names it.
      const known = variants.get(id)
      if (known) {
        const more = environments.filter(({ uid }) => known.variant.environments.every((one) => one.uid !== uid))
        known.variant.environments.push(...more)
        continue
      }
      const variant: SkillVariant = {
        id,
        description: skill.description,
        base_prompt: skill.instructions,
        source: { owner, name, skill_path: skill.path },
        environments: [...environments],
        last_run_timestamp: null,
        ...(skill.problem === undefined ? {} : { error: `The skill cannot be used: ${skill.problem}.` }),
      }
      variants.set(id, { agent: skill.name, variant })
    }
    const last_runs = await lastRuns(caller, [...variants.values()])
    const agents = new Map<string, SkillAgent>()
    for (const [id, { agent, variant }] of variants) {
      const one = agents.get(agent) ?? { name: agent, variants: [] }
      one.variants.push({ ...variant, last_run_timestamp: last_runs.get(id) ?? null })
      agents.set(agent, one)
    }
    return [...agents.values()]
  }

  /** By the spellings that name the skill whole, and by the shorter ones in an environment that has it. */
  async function lastRuns(
    caller: Caller,
    variants: { agent: string; variant: SkillVariant }[],
  ): Promise<Map<string, string>> {
    if (variants.length === 0) return new Map()
    const spellings = variants.flatMap(({ agent, variant: { id, source, environments } }) => {
      const folder = source.skill_path.replace(/\/SKILL\.md$/, '')
      const whats = [...new Set([agent, folder.split('/').at(-1) ?? agent, folder, source.skill_path])]
      const whole = whats.map((what) => ({ id, spec: `${source.owner}/${source.name}:${what}`, uid: null }))
      const short = whats.flatMap((what) =>
        [what, `${source.name}:${what}`].flatMap((spec) => environments.map(({ uid }) => ({ id, spec, uid }))),
      )
      return [...whole, ...short]
    })
    const { rows } = await sql<{ id: string; last: Date }>`
      select said.id, max(run.created_at) as last
      from jsonb_to_recordset(${JSON.stringify(spellings)}::jsonb) as said(id text, spec text, uid text)
      cross join lateral (
        select runs.created_at from runs
        where runs.team_id = ${caller.team_id} and runs.config ? 'skill_spec' and runs.config->>'skill_spec' = said.spec
          and (said.uid is null or runs.config->>'environment_id' = said.uid) and ${visibleRuns(caller)}
        order by runs.created_at desc limit 1
      ) run
      group by said.id`.execute(db)
    return new Map(rows.map(({ id, last }) => [id, last.toISOString()]))
  }

  return { list }
}

function refuseToRead(): Promise<never> {
  return Promise.reject(new ReadingFailed('This server reads no repositories.'))
}

function narrowed(places: Place[], repo: string | undefined): Place[] {
  if (repo === undefined) return places
  const wanted = repo.toLowerCase()
  const found = places.filter(({ owner, name }) => `${owner}/${name}`.toLowerCase() === wanted)
  if (found.length > 0) return found
  const known = [...new Set(places.map(({ owner, name }) => `${owner}/${name}`))]
  throw new Fault(
    'invalid_request',
    `No environment has the repository ${repo}. ` +
      (known.length === 0 ? 'None has any.' : `There are: ${known.slice(0, 10).join(', ')}.`),
    { errors: [{ pointer: '/repo', detail: 'no environment has it' }] },
  )
}

async function within(work: (Promise<void> | undefined)[]): Promise<void> {
  if (work.length === 0) return
  const over = new AbortController()
  const patience = wait(PATIENCE_MS, undefined, { signal: over.signal }).catch(() => {})
  await Promise.race([Promise.all(work), patience]).finally(() => over.abort())
}

function repositoryOf({ owner, name, ref, environments }: Place, row: Row | undefined): SkillRepository {
  const problem = row?.problem ?? (row?.tried_at ? null : 'It is being read; ask again in a moment.')
  return {
    repository: `${owner}/${name}${ref === undefined ? '' : `#${ref}`}`,
    environments,
    read_at: row?.read_at?.toISOString() ?? null,
    ...(problem === null ? {} : { error: problem }),
  }
}

const byTokenName = (a: Token, b: Token): number => GITHUB_TOKENS.indexOf(a.name) - GITHUB_TOKENS.indexOf(b.name)

const byName = (a: SkillAgent, b: SkillAgent): number => a.name.localeCompare(b.name)

/** The newest first; who never ran last. */
function byLastRun(a: SkillAgent, b: SkillAgent): number {
  const last = ({ variants }: SkillAgent) =>
    variants.reduce((latest, { last_run_timestamp: at }) => (at !== null && at > latest ? at : latest), '')
  return last(b).localeCompare(last(a)) || byName(a, b)
}
