-- For the lists whose filter and order belong together, so that what is left out is not read: the tasks still to be done
-- by their due date, of a project or of all, and the done ones by when they were. What is in an index of some of the
-- rows is as in store/listing.py. New tasks are to be done: the other two cost an insert nothing.
CREATE INDEX tasks_open_by_due ON tasks (coalesce(due, 'infinity'::timestamptz), id)
 WHERE status IN ('in_progress', 'todo');
CREATE INDEX tasks_open_by_project ON tasks (project, coalesce(due, 'infinity'::timestamptz), id)
 WHERE status IN ('in_progress', 'todo') AND project IS NOT NULL;
CREATE INDEX tasks_closed_by_completion ON tasks (coalesce(completed_at, 'infinity'::timestamptz), id)
 WHERE status IN ('cancelled', 'done');
CREATE INDEX tasks_deleted_by_id ON tasks (id) WHERE deleted_at IS NOT NULL;
