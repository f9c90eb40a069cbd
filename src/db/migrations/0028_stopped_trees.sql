-- The lists of trees that the storm guard stopped, of which there are few.
create index runs_stopped on runs (team_id, updated_at desc, run_id desc) where stopped is not null;
