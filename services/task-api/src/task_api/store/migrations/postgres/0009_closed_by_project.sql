-- With tasks_open_by_project, all tasks of a project by due date: a page reads the beginning of each of the two, instead of
-- sorting the whole project. Most new tasks are open, and inserting those costs the same as without it. An index that an
-- operator has created before, CONCURRENTLY, is kept (docs/operate.md).
CREATE INDEX IF NOT EXISTS tasks_closed_by_project ON tasks (project, coalesce(due, 'infinity'::timestamptz), id)
 WHERE status IN ('cancelled', 'done') AND project IS NOT NULL;
