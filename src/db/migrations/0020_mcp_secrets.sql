-- Secrets that the MCP servers of a run name. `mcp` as a reach: it goes to these alone, and is no variable.
alter table execution_secrets
  drop constraint execution_secrets_reach_check,
  add constraint execution_secrets_reach_check check (reach in ('environment', 'broker', 'mcp')),
  -- An MCP server names it, wherever else it goes.
  add column for_mcp boolean not null default false;
