/** Environments: made, changed, deleted, found by uid or name, and as they stand for an execution. */
import { type Kysely, type Selectable, sql } from 'kysely'
import {
  type AgentConfig,
  type EditEnvironment,
  Environment,
  EnvironmentConfig,
  Fault,
  FrozenEnvironment,
  type NewEnvironment,
  type Repository,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Environments } from '../db/tables.ts'
import type { Caller, Owned } from './caller.ts'
import { checkMcpServers } from './configuration.ts'
import type { Room } from './engine.ts'
import { creatorOf, editorOf } from './makers.ts'
import { personOf } from './runs.ts'
import { newUid } from './uid.ts'
import { ownedBy, scopeOf, visibleRuns, visibleTo } from './visible.ts'

/** Runs, identities and names that a refusal lists. */
const NAMED_MAX = 10
const UNIQUE_VIOLATION = '23505'

export function environmentsEngine(room: Room) {
  const { clock } = room
  const db = room.database.kysely

  async function list(caller: Caller, sort_by: 'name' | 'last_updated'): Promise<{ environments: Environment[] }> {
    const rows = select(caller)
    const sorted = sort_by === 'name' ? rows.orderBy(sql`lower(e.name)`) : rows.orderBy('e.updated_at', 'desc')
    return { environments: (await sorted.orderBy('e.environment_uid').execute()).map(render) }
  }

  async function get(caller: Caller, uid: string): Promise<Environment> {
    const row = await select(caller).where('e.environment_uid', '=', uid).executeTakeFirst()
    if (!row) throw notFound(uid)
    return render(row)
  }

  async function create(caller: Caller, body: NewEnvironment): Promise<Environment> {
    const maker = editorOf(caller)
    const now = clock.now()
    const environment_uid = newUid()
    const row = {
      environment_uid,
      ...ownedBy(caller, body.team),
      creator_id: maker.editor_id,
      creator_identity_uid: maker.editor_identity_uid,
      ...maker,
      created_at: now,
      updated_at: now,
      ...EMPTY,
      ...columnsOf(body),
      name: body.name,
    }
    await named(body.name, () => db.insertInto('environments').values(row).execute())
    return get(caller, environment_uid)
  }

  /** Whole: what is left out is empty. Otherwise: what is left out stays. */
  async function update(caller: Caller, uid: string, body: EditEnvironment, whole: boolean): Promise<Environment> {
    const editor = editorOf(caller)
    const { version, last_updated, name } = body
    const changed = await named(name ?? '', () => {
      let rows = db
        .updateTable('environments')
        .set({
          ...(whole ? EMPTY : {}),
          ...columnsOf(body),
          ...(name === undefined ? {} : { name }),
          version: sql<number>`version + 1`,
          ...editor,
          updated_at: clock.now(),
        })
        .where('environment_uid', '=', uid)
        .where(visibleTo(caller, 'environments'))
        .where('deleted_at', 'is', null)
      if (version !== undefined) rows = rows.where('version', '=', version)
      if (last_updated !== undefined) rows = rows.where('updated_at', '=', new Date(last_updated))
      return rows.returning('environment_uid').executeTakeFirst()
    })
    const current = await get(caller, uid)
    if (changed) return current
    const by = current.last_editor.display_name ?? 'somebody'
    throw new Fault(
      'conflict',
      `Environment ${current.config.name} was changed by ${by} at ${current.last_updated}; it is at version ` +
        `${current.version} now. Read it again and make your change to that.`,
      { retryable: false },
    )
  }

  /** What was made with it keeps it as it was; nothing new may name it. */
  async function remove(caller: Caller, uid: string, force: boolean): Promise<Record<string, never>> {
    personOf(caller)
    const environment = await get(caller, uid)
    if (!force) await checkUnused(caller, environment)
    const deleted = await db
      .updateTable('environments')
      .set({ deleted_at: clock.now() })
      .where('environment_uid', '=', uid)
      .where(visibleTo(caller, 'environments'))
      .where('deleted_at', 'is', null)
      .executeTakeFirst()
    if (deleted.numUpdatedRows === 0n) throw notFound(uid)
    return {}
  }

  /** Names what the caller may see, and counts the rest. */
  async function checkUnused(caller: Caller, { uid, config }: Environment): Promise<void> {
    const runs = await db
      .selectFrom('runs')
      .select(['run_id', visibleRuns(caller).as('seen')])
      .where(sql<boolean>`config ? 'environment_id' and config->>'environment_id' = ${uid}`)
      .where('state', 'not in', ['SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED'])
      .orderBy('created_at')
      .execute()
    const identities = await db
      .selectFrom('identities')
      .select(['name', visibleTo(caller, 'identities').as('seen')])
      .where('environment_uid', '=', uid)
      .where('deleted_at', 'is', null)
      .orderBy('name')
      .execute()
    const schedules = await db
      .selectFrom('schedules')
      .select(['name', visibleTo(caller, 'schedules').as('seen')])
      .where(sql<boolean>`config ? 'environment_id' and config->>'environment_id' = ${uid}`)
      .where('deleted_at', 'is', null)
      .orderBy('name')
      .execute()
    const users = [
      ...schedules.map(({ name, seen }) => ({ seen, text: `schedule ${JSON.stringify(name)}` })),
      ...identities.map(({ name, seen }) => ({ seen, text: `agent identity ${JSON.stringify(name)}` })),
      ...runs.map(({ run_id, seen }) => ({ seen, text: `run ${run_id}` })),
    ]
    if (users.length === 0) return
    const shown = users.filter(({ seen }) => seen).slice(0, NAMED_MAX)
    const others = users.length - shown.length
    const more = shown.length === 0 ? `${others} that you may not see` : ` and ${others} more`
    throw new Fault(
      'conflict',
      `Environment ${config.name} is in use by ${shown.map(({ text }) => text).join(', ')}${others === 0 ? '' : more}. ` +
        'Delete it with force: runs that were made with it keep it as it is, and nothing new may name it.',
      { retryable: false },
    )
  }

  const select = (caller: Caller) =>
    db
      .selectFrom('environments as e')
      .innerJoin('users as creator', 'creator.user_id', 'e.creator_id')
      .innerJoin('users as editor', 'editor.user_id', 'e.editor_id')
      .leftJoin('identities as maker', 'maker.identity_uid', 'e.creator_identity_uid')
      .leftJoin('identities as changer', 'changer.identity_uid', 'e.editor_identity_uid')
      .leftJoinLateral(
        (from) =>
          from
            .selectFrom('runs')
            .where(sql<boolean>`config ? 'environment_id' and config->>'environment_id' = e.environment_uid`)
            .where(visibleRuns(caller))
            .select(['run_id', 'title', 'state', 'created_at', 'updated_at', 'started_at', 'failure'])
            .orderBy('created_at', 'desc')
            .limit(1)
            .as('last'),
        (on) => on.onTrue(),
      )
      .where(visibleTo(caller, 'e'))
      .where('e.deleted_at', 'is', null)
      .selectAll('e')
      .select(['creator.display_name as creator_name', 'creator.email as creator_email'])
      .select(['editor.display_name as editor_name', 'editor.email as editor_email'])
      .select(['maker.name as creator_agent', 'changer.name as editor_agent'])
      .select(['last.run_id', 'last.title', 'last.state', 'last.created_at as run_created_at'])
      .select(['last.updated_at as run_updated_at', 'last.started_at as run_started_at'])
      .select(
        sql<boolean>`coalesce(last.failure->>'error_code' = 'environment_setup_failed', false)`.as('setup_failed'),
      )

  type Selected = Awaited<ReturnType<ReturnType<typeof select>['execute']>>[number]

  function render(row: Selected): Environment {
    return Environment.parse({
      uid: row.environment_uid,
      config: environmentConfigOf(row),
      version: row.version,
      last_updated: row.updated_at.toISOString(),
      setup_failed: row.setup_failed,
      last_task_run_timestamp: row.run_created_at?.toISOString() ?? null,
      last_task_created:
        row.run_id === null
          ? undefined
          : {
              id: row.run_id,
              title: row.title,
              state: row.state,
              created_at: row.run_created_at?.toISOString(),
              updated_at: row.run_updated_at?.toISOString(),
              started_at: row.run_started_at?.toISOString(),
            },
      scope: scopeOf(row),
      creator: creatorOf({
        creator_id: row.creator_id,
        display_name: row.creator_name,
        email: row.creator_email,
        creator_identity_uid: row.creator_identity_uid,
        creator_identity_name: row.creator_agent,
      }),
      last_editor: creatorOf({
        creator_id: row.editor_id,
        display_name: row.editor_name,
        email: row.editor_email,
        creator_identity_uid: row.editor_identity_uid,
        creator_identity_name: row.editor_agent,
      }),
    })
  }

  return {
    list,
    get,
    create,
    delete: remove,
    replace: (caller: Caller, uid: string, body: EditEnvironment) => update(caller, uid, body, true),
    update: (caller: Caller, uid: string, body: EditEnvironment) => update(caller, uid, body, false),
  }
}

const EMPTY = {
  description: null,
  docker_image: null,
  repositories: '[]',
  setup_commands: '[]',
  variables: '{}',
  mcp_servers: '{}',
  providers: null,
  failure_session_retention_minutes: null,
}

/** What was given, as it is stored. */
function columnsOf(body: EditEnvironment) {
  const { description, docker_image, setup_commands, variables, mcp_servers, providers } = body
  const { failure_session_retention_minutes } = body
  checkMcpServers(mcp_servers ?? {}, '/mcp_servers')
  const { github_repos } = body
  const repositories =
    body.repositories ?? github_repos?.map(({ owner, repo }) => ({ url: `https://github.com/${owner}/${repo}.git` }))
  return {
    ...(description === undefined ? {} : { description: description || null }),
    ...(docker_image === undefined ? {} : { docker_image: docker_image || null }),
    ...(repositories === undefined ? {} : { repositories: JSON.stringify(repositories) }),
    ...(setup_commands === undefined ? {} : { setup_commands: JSON.stringify(setup_commands) }),
    ...(variables === undefined ? {} : { variables: JSON.stringify(variables) }),
    ...(mcp_servers === undefined ? {} : { mcp_servers: JSON.stringify(mcp_servers) }),
    ...(providers === undefined ? {} : { providers: providers && JSON.stringify(providers) }),
    ...(failure_session_retention_minutes === undefined ? {} : { failure_session_retention_minutes }),
  }
}

export function environmentConfigOf(row: Selectable<Environments>): EnvironmentConfig {
  return EnvironmentConfig.parse({
    ...row,
    docker_image: row.docker_image ?? undefined,
    providers: row.providers ?? undefined,
    github_repos: githubRepos(row.repositories),
  })
}

function githubRepos(repositories: unknown): { owner: string; repo: string }[] {
  const known = FrozenEnvironment.shape.repositories.parse(repositories)
  return known.flatMap(({ url }: Repository) => {
    const [, owner, repo] =
      /^(?:https:\/\/|ssh:\/\/git@|git@)github\.com[/:]([\w-]+)\/([\w.-]+?)(?:\.git)?\/?$/i.exec(url) ?? []
    return owner === undefined || repo === undefined ? [] : [{ owner, repo }]
  })
}

async function named<T>(name: string, write: () => Promise<T>): Promise<T> {
  try {
    return await write()
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === UNIQUE_VIOLATION)) throw error
    throw new Fault('conflict', `There is an environment ${JSON.stringify(name)} already. Choose another name.`, {
      retryable: false,
    })
  }
}

/** By uid or name, as what is so owned may name it; a person's own goes before one of the team with its name. */
export async function findEnvironment(
  db: Kysely<Tables>,
  owned: Owned,
  asked: string,
  pointer = '/config/environment_id',
): Promise<Selectable<Environments>> {
  const rows = await db
    .selectFrom('environments')
    .selectAll()
    .where(visibleTo(owned, 'environments'))
    .where((e) => e.or([e('environment_uid', '=', asked), e(sql`lower(name)`, '=', asked.trim().toLowerCase())]))
    .execute()
  const living = rows.filter((row) => row.deleted_at === null)
  const found =
    living.find((row) => row.environment_uid === asked) ?? living.find((row) => row.owner_user_id) ?? living[0]
  if (found) return found
  const deleted = rows.find((row) => row.environment_uid === asked)
  const what =
    deleted === undefined
      ? `There is no environment ${JSON.stringify(asked)}.`
      : `Environment ${JSON.stringify(deleted.name)} was deleted.`
  throw new Fault('invalid_request', `${what} ${await knownNames(db, owned)}`, {
    errors: [{ pointer, detail: deleted === undefined ? 'no such environment' : 'was deleted' }],
  })
}

async function knownNames(db: Kysely<Tables>, owned: Owned): Promise<string> {
  const rows = await db
    .selectFrom('environments')
    .select('name')
    .where(visibleTo(owned, 'environments'))
    .where('deleted_at', 'is', null)
    .orderBy('name')
    .limit(NAMED_MAX + 1)
    .execute()
  const personal = owned.owner_user_id === null ? ' What is of the team may use no personal one.' : ''
  if (rows.length === 0) return `The team has none; make one with POST /agent/environments.${personal}`
  const names = rows.slice(0, NAMED_MAX).map(({ name }) => JSON.stringify(name))
  return `There are: ${names.join(', ')}${rows.length > NAMED_MAX ? ', …' : ''}.${personal}`
}

/** The environments of runs whose executions are made now, by uid. A deleted one is as it was last. */
export async function freezeEnvironments(
  db: Kysely<Tables>,
  configs: AgentConfig[],
): Promise<Map<string, FrozenEnvironment>> {
  const uids = [...new Set(configs.flatMap(({ environment_id }) => environment_id ?? []))]
  if (uids.length === 0) return new Map()
  const rows = await db.selectFrom('environments').selectAll().where('environment_uid', 'in', uids).execute()
  return new Map(
    rows.map((row) => [row.environment_uid, FrozenEnvironment.parse({ ...row, uid: row.environment_uid })]),
  )
}

function notFound(uid: string): Fault {
  return new Fault('resource_not_found', `There is no environment ${uid}.`)
}
