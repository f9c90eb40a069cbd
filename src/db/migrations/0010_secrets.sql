-- Secrets, and the keys that tokens are signed with. No value stands here in plain: each is encrypted with a key of its
-- own, which is locked with a master key that is not in the database.

create table secrets (
  secret_uid text primary key check (secret_uid ~ '^[A-Za-z0-9]{22}$'),
  team_id uuid not null references teams,
  -- Set: this person's alone.
  owner_user_id uuid references users,
  -- Set: only for runs in this environment.
  environment_uid text references environments,
  name text not null,
  type text not null check (type in ('raw_value', 'anthropic_api_key', 'openai_api_key', 'anthropic_bedrock_api_key',
    'anthropic_bedrock_access_key')),
  description text,
  -- Counts the values; that of this number is the current one.
  version integer not null default 1,
  creator_id uuid not null references users,
  editor_id uuid not null references users,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  last_used_at timestamptz,
  last_used_run_id uuid,
  deleted_at timestamptz
);
create unique index secrets_name on secrets (team_id, owner_user_id, environment_uid, name) nulls not distinct
  where deleted_at is null;

-- A value. It is kept while it is the current one, or an execution that was given it has not ended.
create table secret_versions (
  secret_uid text not null references secrets,
  version integer not null,
  -- Of the master key that locks `wrapped_key`, which encrypts `ciphertext`.
  key_id text not null,
  wrapped_key bytea not null,
  ciphertext bytea not null,
  primary key (secret_uid, version)
);
create index secret_versions_key on secret_versions (key_id);

-- What an execution is given, settled when it is offered.
create table execution_secrets (
  execution_id uuid not null references executions,
  secret_uid text not null references secrets,
  version integer not null,
  -- Where it goes: into the sandbox, or to the worker's broker for models.
  reach text not null check (reach in ('environment', 'broker')),
  -- The run names it for its harness.
  chosen boolean not null,
  primary key (execution_id, secret_uid)
);
create index execution_secrets_secret on execution_secrets (secret_uid);

-- `oidc`: signs identity tokens. `workload`: proves to this server itself which execution speaks.
create table issuer_keys (
  kid text primary key,
  purpose text not null check (purpose in ('oidc', 'workload')),
  -- Null where nobody else verifies.
  public_jwk jsonb,
  key_id text not null,
  wrapped_key bytea not null,
  ciphertext bytea not null,
  created_at timestamptz not null,
  signs_from timestamptz not null
);
create unique index issuer_keys_workload on issuer_keys (purpose) where purpose = 'workload';
