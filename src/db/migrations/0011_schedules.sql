-- Schedules, and what became of each of their times.

create table schedules (
  schedule_id uuid primary key,
  team_id uuid not null references teams,
  -- Whose it is alone; null: the team's.
  owner_user_id uuid references users,
  name text not null,
  -- Five fields, told by the clock of time_zone, an IANA name.
  cron_schedule text not null,
  time_zone text not null,
  enabled boolean not null,
  -- What its runs are asked for.
  prompt text not null,
  config jsonb not null,
  identity_uid text,
  mode text not null check (mode in ('normal', 'plan', 'orchestrate')),
  metadata jsonb not null,
  -- What happens at a time when a run of its own is still going on.
  overlap_policy text not null check (overlap_policy in ('skip', 'queue', 'cancel_previous')),
  -- A time that was missed still counts for so long, and which of several.
  catch_up_window_minutes integer not null check (catch_up_window_minutes >= 0),
  catch_up text not null check (catch_up in ('latest', 'all')),
  -- The next time that nobody has dealt with; null: it is paused or deleted.
  due_at timestamptz,
  -- Of its last run.
  last_ran_at timestamptz,
  last_run_id uuid,
  -- Why the last run that it should have made could not be made.
  last_spawn_error text,
  creator_id uuid not null references users,
  editor_id uuid not null references users,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  -- A deleted row stays, for the runs that it made.
  deleted_at timestamptz,
  check (due_at is null or (enabled and deleted_at is null))
);
create index schedules_due on schedules (due_at) where due_at is not null;
create index schedules_team on schedules (team_id, lower(name)) where deleted_at is null;
create index schedules_environment on schedules ((config->>'environment_id'))
  where config ? 'environment_id' and deleted_at is null;

-- One row for each time that a schedule came to.
create table firings (
  firing_id uuid primary key,
  team_id uuid not null,
  schedule_id uuid not null references schedules,
  -- `time`: its cron said so; `run_now`: a person did.
  cause text not null check (cause in ('time', 'run_now')),
  -- The time that was planned for.
  due_at timestamptz not null,
  -- fired: it has a run; waiting: for a run to end; skipped: it will have none; failed: its run could not be made.
  state text not null check (state in ('fired', 'waiting', 'skipped', 'failed')),
  -- The run's row is written last: it bumps the counter of the log.
  run_id uuid references runs deferrable initially deferred,
  -- A sentence: why it waits, or has no run.
  reason text,
  created_at timestamptz not null,
  -- When its run was made, or it was given up.
  settled_at timestamptz,
  check ((state = 'fired') = (run_id is not null)),
  check ((state = 'waiting') = (settled_at is null))
);
-- However many servers there are, and whenever one of them dies.
create unique index firings_once on firings (schedule_id, due_at) where cause = 'time';
create unique index firings_waiting on firings (schedule_id) where state = 'waiting';
create index firings_schedule on firings (schedule_id, due_at desc, firing_id desc);
-- Runs of a schedule that are still going on.
create index runs_schedule_open on runs (schedule_id)
  where schedule_id is not null and state not in ('SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED');
