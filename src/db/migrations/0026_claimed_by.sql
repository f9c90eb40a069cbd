-- The execution whose runner took a message for its agent; null: a tool's answer gave it, or nobody has. A runner that
-- asks again, because the answer to its claim was lost, is told by it whether the claim was its own.
alter table messages add column claimed_by uuid;
