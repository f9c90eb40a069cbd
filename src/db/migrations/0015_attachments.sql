-- Files that come with a run, and what of its workspace an execution leaves to the next.

-- What a send key stands for: the same key with another body is refused. Null: kept before this was known.
alter table messages add column send_hash text;
