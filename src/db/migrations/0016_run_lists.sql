-- How runs are listed: every filter of a list is answered from an index of the team's runs alone, without their rows,
-- in the order of the list or by a sort of what fits in a few hundred pages. docs/decisions/0016-run-lists.md.

-- A hash of 52 bits: every program reads it as a number without loss.
create function run_label(kind text, value text) returns bigint
  language sql immutable parallel safe
  return hashtextextended(kind || ' ' || value, 0) >> 12;

-- What a run is found by: the filter `name=x` shows it when its labels contain run_label('name', 'x').
create function run_labels(source text, execution_location text, creator text, executor text, schedule_id uuid,
    parent_run_id uuid, config jsonb, metadata jsonb) returns bigint[]
  language sql immutable parallel safe
  return (
    select array_agg(run_label(kind, value)) from (
      values ('source', source), ('execution_location', execution_location), ('creator', creator),
        ('executor', executor), ('schedule', schedule_id::text),
        ('parent', case when parent_run_id is null then 'none' end), ('name', config->>'name'),
        ('model', coalesce(config->>'model_id', config->'harness'->>'model_id')),
        ('environment', coalesce(config->>'environment_id', 'empty-environment'))
      union all select 'skill' as kind, skill as value from jsonb_array_elements_text(config->'skills') as skill
      union all select 'metadata' as kind, key || '=' || said as value from jsonb_each_text(metadata) as pairs(key, said)
    ) as labels(kind, value) where value is not null
  );

-- The name of the first skill: what the contract calls skillNameOf.
create function run_agent(config jsonb) returns text
  language sql immutable parallel safe
  return lower(left(regexp_replace(
    regexp_replace(config->>'skill_spec', '[:/]*(SKILL\.md)?/*$', '', 'i'), '^.*[:/]', ''), 64));

alter table runs
  add column labels bigint[] not null generated always as (run_labels(source, execution_location,
    coalesce(creator_identity_uid, creator_id::text), coalesce(identity_uid, creator_identity_uid, creator_id::text),
    schedule_id, parent_run_id, config, metadata)) stored,
  -- What lists sort by, bytewise and cut so that it fits in an index.
  add column sort_title text collate "C" not null generated always as (lower(left(title, 64))) stored,
  add column sort_agent text collate "C" generated always as (run_agent(config)) stored;

drop index runs_team_updated;
drop index runs_team_created;
create index runs_team_updated on runs (team_id, updated_at desc, run_id desc)
  include (created_at, state, owner_user_id, labels);
create index runs_team_created on runs (team_id, created_at desc, run_id desc)
  include (updated_at, state, owner_user_id, labels, sort_title, sort_agent);
-- An index alone answers for pages that vacuum has seen.
alter table runs set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.02);

-- What the sweep looks for again and again.
create index runs_cancelling on runs (cancel_requested_at)
  where cancel_requested_at is not null and state in ('INPROGRESS', 'BLOCKED');

create index artifacts_type on artifacts (team_id, artifact_type, run_id);

-- What a run is searched in. Apart from its row, which changes often: a change would write every word of it anew.
create table run_texts (
  run_id uuid primary key references runs,
  team_id uuid not null,
  text text not null
);

create function run_text(title text, prompt text, config jsonb) returns text
  language sql immutable parallel safe
  return title || ' ' || coalesce(config->>'skill_spec', '') || ' ' || left(prompt, 1000);

insert into run_texts (run_id, team_id, text) select run_id, team_id, run_text(title, prompt, config) from runs;

-- Where extensions may not be made, the search finds words as they are written, by reading the texts of the team.
do $$
begin
  create extension if not exists pg_trgm;
  create extension if not exists btree_gin;
  create index run_texts_search on run_texts using gin (team_id, text gin_trgm_ops)
    with (gin_pending_list_limit = 512);
exception when insufficient_privilege or feature_not_supported or undefined_file or undefined_object then
  raise notice 'the search for runs stays exact: %', sqlerrm;
end
$$;
