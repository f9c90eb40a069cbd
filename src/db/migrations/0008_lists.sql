-- Where runs come from. How they are listed: 0016_run_lists.sql.

alter table runs
  -- The schedule that made it. Without a foreign key, as is its identity: each check would lock the schedule's row.
  add column schedule_id uuid,
  -- The thread, ticket or job that it was asked for in.
  add column trigger_url text;
create index runs_schedule on runs (schedule_id, created_at desc) where schedule_id is not null;
