-- Memory: stores of what agents learned, which runs are given with their task. A deleted store and a tombstoned memory
-- stay, for the runs that were given them.

create table memory_stores (
  store_uid text primary key check (store_uid ~ '^[A-Za-z0-9]{22}$'),
  team_id uuid not null references teams,
  -- Null: the team's.
  owner_user_id uuid references users,
  -- The automatic memory of this agent identity.
  identity_uid text references identities,
  description text,
  creator_id uuid not null references users,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  deleted_at timestamptz
);
create index memory_stores_team on memory_stores (team_id, created_at);
create unique index memory_stores_identity on memory_stores (identity_uid) where deleted_at is null;

create table memories (
  memory_id uuid primary key,
  store_uid text not null references memory_stores,
  -- Counts the changes of the content; a change may name the one that it was made from.
  version integer not null,
  version_id uuid not null,
  content text not null,
  -- MANUAL: a person's; AGENT: that of the run.
  source text not null check (source in ('MANUAL', 'AGENT')),
  source_id text,
  -- Without a foreign key: each check would lock the run's row.
  source_run_id uuid,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  tombstoned_at timestamptz
);
create index memories_store on memories (store_uid, created_at);

create table memory_versions (
  version_id uuid primary key,
  memory_id uuid not null references memories,
  version integer not null,
  content text not null,
  reason text,
  -- Whoever wrote it: a person, or the agent of a run.
  user_id uuid references users,
  run_id uuid,
  created_at timestamptz not null,
  unique (memory_id, version)
);

-- Which stores the runs of an agent identity are given.
create table identity_stores (
  identity_uid text not null references identities,
  store_uid text not null references memory_stores,
  access text not null check (access in ('read_write', 'read_only')),
  instructions text not null,
  place integer not null,
  primary key (identity_uid, store_uid)
);
create index identity_stores_store on identity_stores (store_uid);
alter table identities add column auto_memory boolean not null default false;
