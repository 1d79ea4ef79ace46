-- An index for each order that a list can have, so that a page costs the same whether there are ten tasks or a million.
-- The expressions are those of store/listing.py: NEVER comes after all other times, and asyncpg sends it as infinity.
CREATE INDEX tasks_sorted_by_due ON tasks (coalesce(due, 'infinity'::timestamptz), id);
CREATE INDEX tasks_sorted_by_start ON tasks (coalesce(start_at, 'infinity'::timestamptz), id);
CREATE INDEX tasks_sorted_by_completion ON tasks (coalesce(completed_at, 'infinity'::timestamptz), id);
CREATE INDEX tasks_sorted_by_priority ON tasks (priority, id);
CREATE INDEX tasks_sorted_by_title ON tasks (title COLLATE "C", id);
CREATE INDEX tasks_sorted_by_position ON tasks (position, id);
