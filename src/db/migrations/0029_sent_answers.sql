-- Whether the whole answer was handed over to its connection, as far as that is written down. Until it was, no other
-- call of its agent shows that it was read.
alter table givings add column sent boolean not null default false;
update givings set sent = true;

-- The last claim of its runner, which is asked for again where the answer to it was lost.
alter table runs add column claim_id uuid;
