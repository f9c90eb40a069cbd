-- Trees that the storm guard stopped: what is at work in them is held until a person releases them.

alter table runs
  -- The run's tree is stopped: nobody is offered the run, and its agent is told nothing. The same on every run of a
  -- tree, so that whoever looks at a run need not look at its root.
  add column halted boolean not null default false;
update runs set halted = true
where root_run_id in (select run_id from runs where stopped is not null);
