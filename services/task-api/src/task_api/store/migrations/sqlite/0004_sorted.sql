-- An index for each order that a list can have, as PostgreSQL has them. The expressions are those of store/listing.py:
-- the time that comes after all others is query.py's NEVER.
CREATE INDEX tasks_sorted_by_due ON tasks (coalesce(due, '9999-12-31T23:59:59.999999+00:00'), id);
CREATE INDEX tasks_sorted_by_start ON tasks (coalesce(start_at, '9999-12-31T23:59:59.999999+00:00'), id);
CREATE INDEX tasks_sorted_by_completion ON tasks (coalesce(completed_at, '9999-12-31T23:59:59.999999+00:00'), id);
CREATE INDEX tasks_sorted_by_priority ON tasks (priority, id);
CREATE INDEX tasks_sorted_by_title ON tasks (title, id);
CREATE INDEX tasks_sorted_by_position ON tasks (position, id);
