-- The spine: teams and who may ask, runs, executions, transcripts, the log, workers.
-- Every row belongs to a team. Rows that hang on a run or an execution repeat its team_id without a foreign key: each
-- check would lock the team's row for every writer of the team. States and their arrows: docs/ARCHITECTURE.md.

create table teams (
  team_id uuid primary key,
  name text not null,
  max_concurrent_runs integer not null default 4 check (max_concurrent_runs >= 0),
  created_at timestamptz not null
);

create table users (
  user_id uuid primary key,
  team_id uuid not null references teams,
  display_name text not null,
  email text,
  created_at timestamptz not null
);

-- Bearer keys, kept only as SHA-256. `scope` is bound here, never asked for.
create table api_keys (
  key_id uuid primary key,
  team_id uuid not null references teams,
  user_id uuid not null references users,
  name text not null,
  scope text not null check (scope in ('user', 'worker')),
  hash bytea not null unique,
  created_at timestamptz not null,
  last_used_at timestamptz,
  expires_at timestamptz,
  revoked_at timestamptz
);

-- Browser sessions and the one-time codes that open them, kept only as SHA-256.
create table sessions (
  session_id uuid primary key,
  team_id uuid not null references teams,
  user_id uuid not null references users,
  hash bytea not null unique,
  created_at timestamptz not null,
  last_used_at timestamptz not null,
  expires_at timestamptz not null
);

create table login_codes (
  hash bytea primary key,
  team_id uuid not null references teams,
  user_id uuid not null references users,
  expires_at timestamptz not null
);

create table runs (
  run_id uuid primary key,
  team_id uuid not null references teams,
  parent_run_id uuid references runs,
  conversation_id uuid not null,
  state text not null check (state in ('QUEUED', 'PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED', 'SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED')),
  title text not null,
  prompt text not null,
  config jsonb not null,
  metadata jsonb not null default '{}',
  source text not null,
  execution_location text not null check (execution_location in ('LOCAL', 'REMOTE')),
  worker_host text,
  creator_id uuid not null references users,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  queued_at timestamptz not null,
  not_before timestamptz,
  started_at timestamptz,
  ended_at timestamptz,
  -- The current execution, or the last one. Set when it is offered; a write that names another is refused.
  execution_id uuid,
  executions integer not null default 0,
  -- Executions that began since the run was last asked for; a retryable failure is final when they reach max_tries.
  tries integer not null default 0,
  max_tries integer not null default 3,
  cancel_requested_at timestamptz,
  cancel_requested_by text,
  status_message text,
  failure jsonb,
  last_event_sequence bigint
);
create index runs_team_updated on runs (team_id, updated_at desc, run_id desc);
create index runs_team_created on runs (team_id, created_at desc, run_id desc);
create index runs_parent on runs (parent_run_id) where parent_run_id is not null;
create index runs_queued on runs (team_id, queued_at, run_id) where state = 'QUEUED';
-- What counts towards a team's limit.
create index runs_busy on runs (team_id) where state in ('PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED') and execution_location = 'REMOTE';

create table executions (
  execution_id uuid primary key,
  run_id uuid not null references runs,
  team_id uuid not null,
  number integer not null,
  state text not null check (state in ('offered', 'claimed', 'running', 'ended')),
  cause text not null check (cause in ('start', 'retry', 'requested', 'local')),
  token_hash bytea not null unique,
  worker_host text,
  connection_id uuid,
  offered_at timestamptz not null,
  claimed_at timestamptz,
  started_at timestamptz,
  ended_at timestamptz,
  -- offered: the offer lapses; claimed: the runner must have begun; running: the lease.
  expires_at timestamptz,
  harness text not null,
  session_id text,
  -- The highest transcript entry held; entries are dense from 1.
  entries integer not null default 0,
  transcript_bytes bigint not null default 0,
  outcome text check (outcome in ('SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED', 'LAPSED')),
  failure jsonb,
  usage jsonb,
  unique (run_id, number),
  check ((state = 'ended') = (outcome is not null)),
  check ((state = 'ended') = (expires_at is null))
);
create index executions_expiring on executions (expires_at) where expires_at is not null;

create table blobs (
  blob_id text primary key, -- SHA-256 of the content, hex
  size_bytes bigint not null,
  created_at timestamptz not null
);

create table entries (
  execution_id uuid not null references executions,
  number integer not null,
  run_id uuid not null,
  team_id uuid not null,
  execution_number integer not null,
  at timestamptz not null,
  kind text not null,
  body jsonb not null,
  -- Set when body is only a head: the whole body, as JSON.
  blob_id text references blobs,
  body_bytes integer not null,
  primary key (execution_id, number)
);
create unique index entries_run on entries (run_id, execution_number, number);

-- One row. Bumped as the last statement of a transaction that logs, so that numbers become visible in order.
create table event_counter (
  one boolean primary key default true check (one),
  value bigint not null
);
insert into event_counter (value) values (0);

create table events (
  sequence bigint primary key,
  team_id uuid not null,
  event_type text not null,
  run_id uuid not null references runs,
  ref_id text,
  execution_id uuid,
  occurred_at timestamptz not null,
  data jsonb
);
create index events_run on events (run_id, sequence);

create table idempotency_keys (
  team_id uuid not null references teams,
  caller text not null,
  route text not null,
  key text not null,
  body_hash bytea not null,
  answer jsonb,
  created_at timestamptz not null,
  primary key (team_id, caller, route, key)
);
create index idempotency_keys_created on idempotency_keys (created_at);

-- One row per open worker connection of any server; a row not seen for a while is a server that died.
create table worker_connections (
  connection_id uuid primary key,
  team_id uuid not null references teams,
  worker_host text not null,
  server_id uuid not null,
  capacity integer,
  backend text,
  version text,
  harnesses jsonb,
  connected_at timestamptz not null,
  last_seen_at timestamptz not null
);

-- Which store this is. Positions in the log are worthless when the epoch differs.
create table store (
  one boolean primary key default true check (one),
  epoch uuid not null default gen_random_uuid(),
  created_at timestamptz not null default now()
);
insert into store default values;
