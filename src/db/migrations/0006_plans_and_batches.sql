-- Plans that wait for a person, and batches of tasks.

alter table teams
  -- Children in mode plan or orchestrate ask a person too; else their plans are approved as they are.
  add column children_ask boolean not null default false,
  add column max_batch_tasks integer not null default 5000 check (max_batch_tasks >= 0);

alter table runs
  add column mode text not null default 'normal' check (mode in ('normal', 'plan', 'orchestrate')),
  -- The version of its plan that waits for a person, and the one that a person approved.
  add column open_plan integer,
  add column approved_plan integer,
  -- So many of its children are at work at a time; null: no bound of its own.
  add column parallelism integer check (parallelism >= 1),
  -- Its children are not offered until it is resumed.
  add column paused_at timestamptz,
  -- Whose parallelism and pause bind this run.
  add column lane_run_id uuid references runs,
  -- Not offered: it waits for other tasks of its batch.
  add column held boolean not null default false,
  add column retry_on text not null default 'retryable' check (retry_on in ('retryable', 'all'));
create index runs_lane on runs (lane_run_id, queued_at, run_id) where state = 'QUEUED' and lane_run_id is not null;
create index runs_lane_busy on runs (lane_run_id)
  where state in ('PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED') and lane_run_id is not null;

-- What a follow-up asked for along with its words.
alter table messages add column mode text check (mode in ('normal', 'plan', 'orchestrate'));

create table plans (
  plan_id uuid primary key,
  team_id uuid not null,
  run_id uuid not null references runs,
  version integer not null,
  state text not null check (state in ('proposed', 'approved', 'changes_requested', 'rejected', 'superseded')),
  author text not null check (author in ('agent', 'person')),
  title text not null,
  document text not null,
  children jsonb not null,
  config jsonb not null,
  artifact_uid uuid not null references artifacts,
  -- One version for each call, also when the call is repeated.
  propose_key text,
  created_at timestamptz not null,
  decided_at timestamptz,
  decided_by uuid references users,
  words text,
  unique (run_id, version)
);
create unique index plans_propose on plans (run_id, propose_key) where propose_key is not null;
-- The inbox of a team.
create index plans_open on plans (team_id, created_at) where state = 'proposed';

create table batches (
  run_id uuid primary key references runs,
  team_id uuid not null,
  stop_on_failure boolean not null,
  created_at timestamptz not null,
  -- The task whose failure stopped it: nothing more of it is offered, until somebody asks for tasks again.
  stopped_by uuid references runs
);
create index batches_team on batches (team_id, created_at, run_id);
-- Batches that have not ended: nothing else is at work without an execution.
create index runs_without_execution on runs (run_id)
  where execution_id is null and state in ('INPROGRESS', 'BLOCKED');

create table batch_tasks (
  run_id uuid primary key references runs,
  batch_run_id uuid not null references batches,
  -- 1, 2, 3… in the order of the list.
  number integer not null,
  name text not null,
  depends_on uuid[] not null,
  unique (batch_run_id, number)
);
create index batch_tasks_dependent on batch_tasks (batch_run_id) where depends_on <> '{}';

-- The end of the last text that an execution's agent or command said: what lists and trees show of each run.
alter table executions add column last_words text;
