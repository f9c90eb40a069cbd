/** A store with very many runs, made by statements over whole sets: like what teams have after years. */
import type pg from 'pg'

export const TEAMS = 200
/** `common` stands in one title of four or so; `rare` in one of a thousand, and `typo` is nearly it. */
export const WORDS = { common: 'invoice', rare: 'quetzal', typo: 'quetzla' } as const

const VOCABULARY = `login deploy parser cache timeout migration worker search index button config header queue invoice
  payment report schema upload widget session token editor release gateway metric layout colour folder branch commit`
const SENTENCES = 4_000
const STEP = 250_000
const TABLES = ['runs', 'run_texts', 'executions', 'artifacts']

/** People and sentences, once; the store's own team is the first of `TEAMS`. */
export async function sowTeams(pool: pg.Pool): Promise<void> {
  await pool.query(`
    create function bench_id(name text) returns uuid language sql immutable parallel safe
      return overlay(overlay(md5(name) placing '4' from 13) placing '8' from 17)::uuid;
    create function bench_uid(name text) returns text language sql immutable parallel safe
      return substr(md5(name), 1, 22);
    create table bench_teams (number int primary key, team_id uuid not null);
    insert into bench_teams select 0, team_id from memberships order by created_at limit 1;
    insert into bench_teams select n, bench_id('team ' || n) from generate_series(1, ${TEAMS - 1}) as n;
    create table bench_people as
      select t.team_id, bench_id('user ' || t.number || ' ' || u) as user_id, 'user' || u as name,
        'user' || u || '@team' || t.number || '.example' as email
      from bench_teams t, generate_series(0, 4) as u;
    insert into teams (team_id, name, created_at)
      select team_id, 'team ' || number, now() from bench_teams where number > 0;
    insert into users (user_id, display_name, email, created_at) select user_id, name, email, now() from bench_people;
    insert into memberships (user_id, team_id, role, created_at)
      select user_id, team_id, 'member', now() from bench_people;
    create table bench_sentences as
      with vocabulary as (select regexp_split_to_array($words$${VOCABULARY}$words$, '\\s+') as words)
      select id, string_agg(words[1 + floor(random() * 30)::int]
        || case when random() < 0.3 then floor(random() * 900)::text else '' end, ' ') as text
      from vocabulary, generate_series(0, ${SENTENCES - 1}) as id, generate_series(1, 8) group by id;
    create unique index on bench_sentences (id)`)
}

/** Runs `from` to `to` of so many teams, in turn, of which `first_team` is the first. */
export async function sowRuns(pool: pg.Pool, { from, to, first_team, teams }: Sown): Promise<void> {
  await planting(pool, async (client) => {
    for (let first = from; first < to; first += STEP) {
      const last = Math.min(to, first + STEP) - 1
      const place = `${first_team} + (n - ${from}) % ${teams} as team, (n - ${from}) / ${teams} as k, ${teams} as stride`
      await sow(client, `select n, ${place} from generate_series(${first}::bigint, ${last}) as n`)
    }
  })
}

type Sown = { from: number; to: number; first_team: number; teams: number }

/** As many more of the first team alone. */
export async function growFirst(pool: pg.Pool, from: number, count: number): Promise<void> {
  const numbers = `generate_series(${from}::bigint, ${from + count - 1}) as n`
  await planting(pool, (client) => sow(client, `select n, 0 as team, n - ${from} as k, 1 as stride from ${numbers}`))
}

/** Without the indexes, which are made anew at the end: a tenth of the time. */
async function planting(pool: pg.Pool, plant: (client: pg.PoolClient) => Promise<void>): Promise<void> {
  const client = await pool.connect()
  try {
    await client.query(`set synchronous_commit = off; set session_replication_role = replica;
      set maintenance_work_mem = '1GB'; set work_mem = '256MB'`)
    const { rows } = await client.query<{ name: string; definition: string }>(
      `select indexrelid::regclass::text as name, pg_get_indexdef(indexrelid) as definition from pg_index
       where indrelid = any($1::regclass[]) and not exists (select from pg_constraint where conindid = indexrelid)`,
      [TABLES],
    )
    for (const { name } of rows) await client.query(`drop index ${name}`)
    await plant(client)
    for (const { definition } of rows) await client.query(definition)
    await client.query('vacuum (analyze) runs, run_texts, executions, artifacts, users')
    await client.query('checkpoint')
  } finally {
    client.release(true)
  }
}

/** `numbers`: for each run its number, its team's, its place in that team, and how far apart the team's numbers are. */
async function sow(client: pg.PoolClient, numbers: string): Promise<void> {
  await client.query(`
    create temp table sown as
    select n.n, n.k, n.team, t.team_id, bench_id('run ' || n.n) as run_id,
      bench_id('execution ' || n.n) as execution_id,
      case when n.k % 10 in (1, 2, 3) then bench_id('run ' || (n.n - n.k % 10 * n.stride)) end as parent_run_id,
      a.text || case when n.k % 1000 = 7 then ' ${WORDS.rare}' else '' end as title,
      b.text || '. ' || c.text || '. ' || d.text as prompt,
      timestamptz '2025-01-01' + n.n * interval '20 seconds' as created_at
    from (${numbers}) as n
    join bench_teams t on t.number = n.team
    join bench_sentences a on a.id = n.n * 7919 % ${SENTENCES}
    join bench_sentences b on b.id = n.n * 6007 % ${SENTENCES}
    join bench_sentences c on c.id = n.n * 104729 % ${SENTENCES}
    join bench_sentences d on d.id = n.n * 15485863 % ${SENTENCES};
    analyze sown`)
  await client.query(`
    insert into runs (run_id, team_id, parent_run_id, root_run_id, depth, conversation_id, state, title, prompt, config,
      metadata, source, execution_location, creator_id, identity_uid, schedule_id, created_at, updated_at, queued_at,
      started_at, ended_at, execution_id, executions)
    select run_id, team_id, parent_run_id, coalesce(parent_run_id, run_id), (parent_run_id is not null)::int, run_id,
      case when k % 1000 = 3 then 'BLOCKED' when k % 10 = 7 then 'FAILED' when k % 10 = 8 then 'ERROR'
        when k % 10 = 9 then 'CANCELLED' else 'SUCCEEDED' end,
      title, prompt,
      jsonb_strip_nulls(jsonb_build_object(
        'name', 'agent-' || k % 50, 'model_id', 'model-' || k % 3, 'harness', jsonb_build_object('type', 'claude'),
        'environment_id', case when k % 3 > 0 then bench_uid('environment ' || team || ' ' || k % 2) end,
        'skill_spec', case when k % 7 = 0 then 'shop:skill-' || k % 10 end,
        'skills', case when k % 7 = 0 then jsonb_build_array('shop:skill-' || k % 10) end)),
      jsonb_build_object('ticket_id', 'VIS-' || k % 500, 'area', (k % 4)::text),
      case when k / 10 % 10 < 5 then 'API' when k / 10 % 10 < 9 then 'WEB_APP' else 'SLACK' end,
      case when k % 50 = 9 then 'LOCAL' else 'REMOTE' end,
      bench_id('user ' || team || ' ' || k % 5),
      case when k % 10 = 4 then bench_uid('identity ' || team) end,
      case when k % 20 = 11 then bench_id('schedule ' || team) end,
      created_at, created_at + interval '10 minutes' * (1 + n % 7), created_at, created_at,
      created_at + interval '9 minutes', execution_id, 1
    from sown`)
  await client.query(`insert into run_texts (run_id, team_id, text)
    select r.run_id, r.team_id, run_text(r.title, r.prompt, r.config) from runs r join sown using (run_id)`)
  await client.query(`
    insert into executions (execution_id, run_id, team_id, number, state, cause, token_hash, worker_host, offered_at,
      started_at, ended_at, harness, entries, outcome, usage)
    select execution_id, run_id, team_id, 1, 'ended', 'start', sha256(run_id::text::bytea), 'machine', created_at,
      created_at, created_at + interval '9 minutes', 'claude', 20, 'SUCCEEDED',
      '{"input_tokens": 1200, "output_tokens": 300, "cache_read_tokens": 90000, "cost_usd": 0.12, "cpu_seconds": 4}'
    from sown`)
  await client.query(`
    insert into artifacts (artifact_uid, team_id, run_id, artifact_type, data, created_at)
    select gen_random_uuid(), team_id, run_id, case when k % 200 = 10 then 'EXTERNAL_REFERENCE' else 'PULL_REQUEST' end,
      '{"url": "https://example.com/1", "branch": "main", "reference_type": "ticket"}', created_at
    from sown where k % 2 = 0`)
  await client.query('drop table sown')
}
