-- The sessions that harnesses keep of their own, so that a run goes on with its memory wherever it runs next. One for
-- each run, the newest.

create table harness_sessions (
  run_id uuid primary key references runs,
  team_id uuid not null,
  harness text not null,
  session_id text not null,
  -- The session knows the transcript up to here.
  execution_number integer not null,
  entries integer not null,
  kept_at timestamptz not null
);

-- A blob of a session is nobody else's: it is removed when another takes its place.
create table harness_session_files (
  run_id uuid not null references harness_sessions,
  path text not null,
  blob_id text not null references blobs,
  packed_bytes integer not null,
  primary key (run_id, path)
);
