-- For the lists whose filter goes along with their order, so that what it leaves out is not read: the tasks of a project
-- still to be done by their due date; what was deleted. Of some rows only, as store/listing.py says it: the second costs
-- an insert nothing. What an operator has made before, CONCURRENTLY, is taken as it is (docs/operate.md).
CREATE INDEX IF NOT EXISTS tasks_open_by_project ON tasks (project, coalesce(due, 'infinity'::timestamptz), id)
 WHERE status IN ('in_progress', 'todo') AND project IS NOT NULL;
CREATE INDEX IF NOT EXISTS tasks_deleted_by_id ON tasks (id) WHERE deleted_at IS NOT NULL;
