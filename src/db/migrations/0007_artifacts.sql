-- Artifacts that are files, and what their addresses are signed with.

alter table artifacts
  -- SHA-256 of the file; its bytes are in the blob store.
  add column blob_id text references blobs,
  add constraint artifacts_blob check (blob_id is null or artifact_type in ('FILE', 'SCREENSHOT'));

create table signing_keys (
  purpose text primary key,
  secret bytea not null,
  created_at timestamptz not null
);
