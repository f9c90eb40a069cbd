-- Secrets that the MCP servers of a run name. `mcp` as a reach: it goes to these alone, and is no variable.
alter table execution_secrets
  drop constraint execution_secrets_reach_check,
  add constraint execution_secrets_reach_check check (reach in ('environment', 'broker', 'mcp')),
  -- An MCP server names it, wherever else it goes.
  add column for_mcp boolean not null default false;

-- Bytes that the uploaded files of a team may have together; null: no limit.
alter table teams add column max_file_bytes bigint check (max_file_bytes >= 0);
create index uploads_team on uploads (team_id) include (size_bytes, size_said);
