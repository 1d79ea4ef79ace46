-- For what has no project, assignee or parent, and for what was created in a range of time, as PostgreSQL has them.
CREATE INDEX IF NOT EXISTS tasks_without_project ON tasks (id) WHERE project IS NULL;
CREATE INDEX IF NOT EXISTS tasks_without_assignee ON tasks (id) WHERE assignee IS NULL;
CREATE INDEX IF NOT EXISTS tasks_without_parent ON tasks (id) WHERE parent IS NULL;
CREATE INDEX IF NOT EXISTS tasks_by_creation ON tasks (created_at, id);
