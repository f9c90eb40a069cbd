-- The harness has said that it stopped cleanly: the execution ends as a success, at the latest when its lease is over.
alter table executions add column shut_down_at timestamptz;

-- Of a part of a fork, the runs below it as they stood then: [{run_id, execution_number, number, state}].
alter table conversation_parts add column children jsonb not null default '[]';

-- What a client of Oz gives a run besides, in base64 as it was sent: messages of a protocol that is not ours.
create table run_givens (
  run_id uuid primary key references runs,
  runtime_skills text[] not null,
  referenced_attachments text[] not null
);
