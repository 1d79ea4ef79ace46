-- The time zone of a rule of recurrence, and what came after a recurring task that is done. Pods of the release before
-- name their columns, and neither read nor write these.

-- Who reads the table for long (a dump does) holds this up, and it would hold up everybody: better to try again.
SET LOCAL lock_timeout = '3s';

ALTER TABLE tasks
    ADD COLUMN time_zone text,
    ADD COLUMN followed_by uuid;
