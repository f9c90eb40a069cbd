-- Teams that were deleted, the agents that made things, and firings that are forgotten.

-- A deleted team is closed to all. Until `restore_until` who shows the code of `restore_hash` opens it again, as it was;
-- then its secrets are destroyed (`purged_at`). What its runs were stays.
alter table teams
  add column deleted_at timestamptz,
  add column deleted_by uuid references users,
  add column restore_hash bytea unique,
  add column restore_until timestamptz,
  add column purged_at timestamptz,
  add check ((deleted_at is null) = (restore_until is null)),
  add check (purged_at is null or deleted_at is not null);
create index teams_deleted on teams (restore_until) where deleted_at is not null and purged_at is null;

-- Set: made with the key of this agent, and `creator_id` is who made that key. As `runs.creator_identity_uid`.
alter table environments add column creator_identity_uid text, add column editor_identity_uid text;
alter table schedules add column creator_identity_uid text, add column editor_identity_uid text;
alter table messages add column sender_identity_uid text;

-- The oldest first, for the sweep.
create index firings_settled on firings (settled_at) where settled_at is not null;
create index schedules_creator on schedules (team_id, creator_id) where deleted_at is null;
