-- The time zone of a rule of recurrence, and what came after a recurring task that is done.
ALTER TABLE tasks ADD COLUMN time_zone text;
ALTER TABLE tasks ADD COLUMN followed_by text;
