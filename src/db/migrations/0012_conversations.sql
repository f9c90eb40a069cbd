-- Conversations: what several runs go on with, and forks.

-- What is known of one besides its runs: a row is made when there is something to say.
create table conversations (
  conversation_id uuid primary key,
  team_id uuid not null references teams,
  -- Null: that of its runs.
  title text,
  forked_from uuid,
  -- What a foreign harness has said that its own transcript is written in.
  format text check (format in ('claude_code_cli', 'codex_cli', 'gemini_cli')),
  created_at timestamptz not null
);

-- What a fork begins with, in order: runs, each up to where it stood when it was forked first.
create table conversation_parts (
  conversation_id uuid not null references conversations,
  number integer not null,
  run_id uuid not null references runs,
  -- The last entry that belongs to it.
  execution_number integer not null,
  entries integer not null,
  forked_at timestamptz not null,
  primary key (conversation_id, number)
);
create index conversation_parts_run on conversation_parts (run_id);

create index runs_conversation on runs (conversation_id, created_at, run_id);
create index executions_session on executions (session_id) where session_id is not null;
