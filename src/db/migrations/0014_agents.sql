-- What the public API knows of environments and agent identities beside what runs are worked on with, the skills that
-- repositories offer, and the models that workers reach.

alter table environments
  add column providers jsonb,
  add column failure_session_retention_minutes integer;

alter table identities
  -- Names of secrets that its runs may have.
  add column secrets jsonb not null default '[]',
  add column harness_auth_secrets jsonb,
  add column inference_providers jsonb,
  add column credential_strategy text,
  add column agent_type text,
  add column factory_uid text,
  -- The one that each team has from the start and cannot delete.
  add column is_default boolean not null default false;
create unique index identities_default on identities (team_id) where is_default;

alter table worker_connections add column models jsonb;

-- What was found in a repository when it was read last; a row is made when somebody asks for the first time.
create table skill_repositories (
  -- SHA-256 of address, ref and login, so that nobody is shown what another's login has read.
  repository_key text primary key,
  team_id uuid not null references teams,
  -- The commit that was read; null: never read.
  head text,
  skills jsonb not null default '[]',
  read_at timestamptz,
  -- Why the last reading failed; null: it did not.
  problem text,
  tried_at timestamptz,
  -- Until then some server reads it.
  reading_until timestamptz,
  asked_at timestamptz not null
);
create index skill_repositories_asked on skill_repositories (asked_at);

create index runs_skill_spec on runs (team_id, (config->>'skill_spec'), created_at desc) where config ? 'skill_spec';
