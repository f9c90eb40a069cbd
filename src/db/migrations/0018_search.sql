-- How words are searched for and runs are added, in stores with very many: docs/decisions/0018-large-stores.md.

-- The planner would try each word of a search on every text that `analyze` has kept, which takes longer than the search.
-- It needs none of them: the index is always the way. A change of type, to the same, makes it forget those it has.
alter table run_texts alter column text set statistics 0;
alter table run_texts alter column text type text;

-- The texts of a team's last runs stand side by side in the index: they are looked up one by one.
alter table run_texts drop constraint run_texts_pkey, add primary key (team_id, run_id);

-- New rows go to the end, side by side, and not one each into what is left over in an old page: each of those would be
-- read, and written to the log whole. Runs keep the room for their later versions, beside them.
alter table runs set (fillfactor = 85);
alter table run_texts set (fillfactor = 85);
