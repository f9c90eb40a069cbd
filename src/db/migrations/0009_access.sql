-- Who may do what: people in teams and their roles, what a key acts as, invitations. And whose a thing is.

create table memberships (
  user_id uuid not null references users,
  team_id uuid not null references teams,
  role text not null check (role in ('viewer', 'member', 'admin', 'owner')),
  created_at timestamptz not null,
  primary key (user_id, team_id)
);
create index memberships_team on memberships (team_id, created_at);
-- Each team had one person, who made it.
insert into memberships (user_id, team_id, role, created_at) select user_id, team_id, 'owner', created_at from users;
alter table users drop column team_id;

-- A key acts for its team as `scope` says, and is worth nothing once who made it has left the team:
--   personal  as who made it; sees and makes personal things, too
--   team      for the team alone
--   agent     as an agent identity
--   worker    opens worker connections, nothing else
alter table api_keys drop constraint api_keys_scope_check;
update api_keys set scope = 'personal' where scope = 'user';
alter table api_keys
  add constraint api_keys_scope_check check (scope in ('personal', 'team', 'agent', 'worker')),
  -- At most this role, whatever its maker's is; null: its maker's.
  add column role text check (role in ('viewer', 'member', 'admin', 'owner')),
  add column identity_uid text references identities,
  -- What of the value may be shown.
  add column preview text not null default 'wk-1.…',
  add constraint api_keys_agent_check check ((scope = 'agent') = (identity_uid is not null));
create index api_keys_team on api_keys (team_id, created_at) where revoked_at is null;

-- The key that opened it, with which it ends; null: an invitation did.
alter table sessions add column key_id uuid references api_keys;
alter table login_codes add column key_id uuid references api_keys;

create table invites (
  invite_id uuid primary key,
  team_id uuid not null references teams,
  role text not null check (role in ('viewer', 'member', 'admin', 'owner')),
  email text,
  -- Of the one-time code.
  hash bytea not null unique,
  creator_id uuid not null references users,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  accepted_at timestamptz,
  accepted_by uuid references users,
  revoked_at timestamptz
);
create index invites_team on invites (team_id, created_at) where accepted_at is null and revoked_at is null;

-- Null: the team's. Else this person's alone, in this team. Without a foreign key on runs, as for their identity.
alter table runs
  add column owner_user_id uuid,
  -- The agent whose key made it, where that was not on behalf of a person.
  add column creator_identity_uid text;
alter table environments add column owner_user_id uuid references users;
alter table identities
  add column owner_user_id uuid references users,
  add column on_behalf_of_enabled boolean not null default false;
drop index environments_name;
create unique index environments_name on environments (team_id, owner_user_id, lower(name)) nulls not distinct
  where deleted_at is null;
