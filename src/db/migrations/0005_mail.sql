-- Mail given in two steps, notices, limits of trees.

-- What a tool's answer has given an agent and the agent has not confirmed. Its messages count as taken, and are not yet
-- delivered.
create table givings (
  execution_id uuid primary key references executions on delete cascade,
  run_id uuid not null references runs,
  -- The call that was answered with it; the same call again gets the same answer.
  call_key text not null,
  message_ids uuid[] not null,
  -- The log up to here is in the text.
  sequence bigint not null,
  text text not null,
  given_at timestamptz not null
);
create index givings_run on givings (run_id);
-- The place of a message in the log.
create index events_message on events (ref_id) where event_type = 'new_message';

-- What an agent had to say to the person behind its run.
create table notices (
  notice_id uuid primary key,
  team_id uuid not null,
  run_id uuid not null references runs,
  message text not null,
  created_at timestamptz not null
);
create index notices_run on notices (run_id, created_at);

-- The same artifact of a run, however often it is reported.
alter table artifacts add column report_key text;
create unique index artifacts_report on artifacts (run_id, report_key) where report_key is not null;

-- From the root of the tree down to the parent.
alter table runs add column ancestors uuid[] not null default '{}';
with recursive below as (
  select run_id, '{}'::uuid[] as ancestors from runs where parent_run_id is null
  union all
  select c.run_id, below.ancestors || below.run_id from runs c join below on c.parent_run_id = below.run_id
)
update runs set ancestors = below.ancestors from below
where below.run_id = runs.run_id and runs.parent_run_id is not null;

-- What a run has sent.
create index messages_sender on messages (sender_run_id, sent_at) where sender_run_id is not null;
