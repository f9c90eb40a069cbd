-- Files that come by an address of their own, and blobs that nothing needs any more.

create table uploads (
  upload_id uuid primary key,
  team_id uuid not null references teams,
  run_id uuid references runs,
  -- What it is for; also what `data` is.
  purpose text not null,
  name text not null,
  mime_type text not null,
  -- Bytes: the most that are taken, and how many there are to be, where that was said.
  size_max bigint not null,
  size_said bigint,
  data jsonb,
  -- Whole when it has come, with nobody to confirm it.
  confirmed_by_coming boolean not null,
  created_at timestamptz not null,
  -- What has come; another file takes its place until it is confirmed.
  blob_id text references blobs,
  size_bytes bigint,
  crc32c text,
  received_at timestamptz,
  confirmed_at timestamptz,
  constraint uploads_received check (
    (blob_id is null) = (received_at is null) and (size_bytes is null) = (received_at is null)
    and (crc32c is null) = (received_at is null)
  ),
  constraint uploads_confirmed check (confirmed_at is null or received_at is not null)
);
create index uploads_open on uploads (created_at) where confirmed_at is null;
create index uploads_run on uploads (run_id, purpose, confirmed_at) where run_id is not null;

-- Whether anything needs a blob is asked of each table that may.
create index uploads_blob on uploads (blob_id) where blob_id is not null;
create index entries_blob on entries (blob_id) where blob_id is not null;
create index artifacts_blob on artifacts (blob_id) where blob_id is not null;
create index harness_session_files_blob on harness_session_files (blob_id);
create index blobs_created on blobs (created_at, blob_id);
