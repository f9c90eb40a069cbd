-- What runs name: environments and agent identities. A deleted row stays, for the runs that name it already.

create table environments (
  environment_uid text primary key check (environment_uid ~ '^[A-Za-z0-9]{22}$'),
  team_id uuid not null references teams,
  name text not null,
  description text,
  docker_image text,
  repositories jsonb not null,
  setup_commands jsonb not null,
  variables jsonb not null,
  mcp_servers jsonb not null,
  -- Counts the edits; an edit may name the one that it was made from.
  version integer not null default 1,
  creator_id uuid not null references users,
  editor_id uuid not null references users,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  deleted_at timestamptz
);
create unique index environments_name on environments (team_id, lower(name)) where deleted_at is null;

create table identities (
  identity_uid text primary key check (identity_uid ~ '^[A-Za-z0-9]{22}$'),
  team_id uuid not null references teams,
  name text not null,
  description text,
  -- Defaults of the runs that are made in its name.
  prompt text,
  base_model text,
  harness jsonb,
  environment_uid text references environments,
  worker_host text,
  skills jsonb not null,
  mcp_servers jsonb not null,
  creator_id uuid not null references users,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  deleted_at timestamptz
);
create index identities_team on identities (team_id, created_at);

-- In whose name a run is worked on; null: its creator's. Without a foreign key, as is the environment in its config: each
-- check would lock the row for every run that names it, and neither is ever taken away.
alter table runs add column identity_uid text;
create index runs_environment on runs ((config->>'environment_id'), created_at desc) where config ? 'environment_id';
create index runs_identity on runs (identity_uid) where identity_uid is not null;

-- The environment as it stood when the execution was made; an edit does not reach it.
alter table executions add column environment jsonb;
