CREATE TABLE notes (id uuid PRIMARY KEY, text text NOT NULL, created_at timestamptz NOT NULL);
CREATE INDEX notes_newest ON notes (created_at DESC);
