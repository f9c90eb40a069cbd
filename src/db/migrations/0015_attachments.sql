-- Files that come with a run, and what of its workspace an execution leaves to the next. The files are uploads.

-- What a send key stands for: the same key with another body is refused. Null: kept before this was known.
alter table messages add column send_hash text;

-- Files of its run that its runner has taken.
alter table executions add column attachments integer not null default 0;

alter table runs add column snapshot_disabled boolean not null default false;

-- What an execution leaves: the files that it named last, all of which have come.
create table snapshots (
  execution_id uuid primary key references executions,
  run_id uuid not null references runs,
  generation text not null,
  files uuid[] not null,
  committed_at timestamptz not null
);
create index snapshots_run on snapshots (run_id);

-- What a client leaves for a run that it is about to make.
create table handoffs (
  handoff_id uuid primary key,
  team_id uuid not null references teams,
  token_hash bytea not null unique,
  files uuid[] not null,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  -- The run that began with it.
  run_id uuid unique references runs
);
create index handoffs_unused on handoffs (expires_at) where run_id is null;
