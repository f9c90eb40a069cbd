-- Trees of runs, and the mailbox between them.

alter table teams
  -- 0: no run may have children; 1: children may have none.
  add column max_depth integer not null default 1 check (max_depth >= 0),
  add column max_children integer not null default 200 check (max_children >= 0),
  add column max_tree_runs integer not null default 1000 check (max_tree_runs >= 1),
  -- The storm guard: what a whole tree may use before a person must release it.
  add column max_tree_messages integer not null default 5000 check (max_tree_messages >= 0),
  add column max_tree_wakes integer not null default 500 check (max_tree_wakes >= 0),
  add column max_hops integer not null default 32 check (max_hops >= 1),
  add column max_tree_tokens bigint check (max_tree_tokens >= 0);

alter table runs
  -- The top of the tree; a run without a parent is its own.
  add column root_run_id uuid references runs,
  add column depth integer not null default 0,
  -- `worker`: offered to a worker; `parent`: started by the parent's runner in the parent's sandbox.
  add column placement text not null default 'worker' check (placement in ('worker', 'parent')),
  -- One child for each call and its place in it, also when the call is repeated.
  add column spawn_key text,
  -- The turn has ended and the agent waits for events until then; such a run takes up no slot.
  add column waiting_until timestamptz,
  -- Messages accepted so far, and those not yet delivered. On the row itself, so that an end and a message that come
  -- together are decided by its lock.
  add column messages integer not null default 0,
  add column undelivered integer not null default 0,
  -- How many messages, each caused by the one before, led to what the agent does now.
  add column hop integer not null default 0,
  -- The last message that the agent was given.
  add column cause_id uuid,
  -- On a root: what the tree has used, why it was stopped, and how often people released it.
  add column tree_messages integer not null default 0,
  add column tree_wakes integer not null default 0,
  add column stopped jsonb,
  add column released integer not null default 0;
update runs set root_run_id = run_id;
alter table runs alter column root_run_id set not null;
create index runs_root on runs (root_run_id, created_at);
create unique index runs_spawn on runs (parent_run_id, spawn_key) where spawn_key is not null;
drop index runs_busy;
create index runs_busy on runs (team_id)
  where state in ('PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED') and execution_location = 'REMOTE' and waiting_until is null;

-- What the agent said of its own work by finish_task; the end of its turn makes it true.
alter table executions add column note jsonb;

alter table executions drop constraint executions_cause_check;
alter table executions add constraint executions_cause_check
  check (cause in ('start', 'retry', 'requested', 'local', 'message'));

create table messages (
  message_id uuid primary key,
  team_id uuid not null,
  -- The run that sent it, else the person.
  sender_run_id uuid references runs,
  sender_user_id uuid references users,
  recipient_run_id uuid not null references runs,
  -- 1, 2, 3… for each recipient, in the order of acceptance.
  number integer not null,
  subject text not null,
  body text not null,
  urgent boolean not null default false,
  hop integer not null,
  -- The message that this one was caused by, if any.
  cause_id uuid references messages,
  -- One message for each call, recipient and place, also when the call is repeated.
  send_key text,
  sent_at timestamptz not null,
  delivered_at timestamptz,
  read_at timestamptz,
  unique (recipient_run_id, number)
);
create index messages_undelivered on messages (recipient_run_id, number) where delivered_at is null;
create unique index messages_send on messages (coalesce(sender_run_id, sender_user_id), send_key)
  where send_key is not null;

create table artifacts (
  artifact_uid uuid primary key,
  team_id uuid not null,
  run_id uuid not null references runs,
  artifact_type text not null check (artifact_type in ('PLAN', 'PULL_REQUEST', 'SCREENSHOT', 'FILE', 'EXTERNAL_REFERENCE')),
  data jsonb not null,
  created_at timestamptz not null
);
create index artifacts_run on artifacts (run_id, created_at);
