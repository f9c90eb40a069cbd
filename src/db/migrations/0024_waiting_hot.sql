-- Whether a run waits changes with each word that its agent waits for. It is no longer in an index's condition, so that
-- such a change touches no index at all; what is busy is few, and read by its rows.
drop index runs_busy;
create index runs_busy on runs (team_id)
  where state in ('PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED') and execution_location = 'REMOTE';

-- An execution's run is its own; the row needs no second look at it.
alter table givings drop constraint givings_run_id_fkey;
