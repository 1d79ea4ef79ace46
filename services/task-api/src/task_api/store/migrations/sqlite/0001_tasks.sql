-- Times are ISO 8601 in UTC with microseconds: as text they sort as they should.
CREATE TABLE tasks (
    number       integer PRIMARY KEY, -- what task_words refers to
    id           text    NOT NULL UNIQUE, -- UUIDv7: its order is the order of creation
    title        text    NOT NULL,
    description  text,
    status       text    NOT NULL,
    priority     integer NOT NULL, -- 0 none ... 4 urgent
    due_at       text,
    due_on       text,
    due          text, -- either of the two as one moment, for order and filters
    start_at     text,
    labels       text    NOT NULL, -- a JSON array
    project      text,
    parent       text,
    assignee     text,
    percent_done integer NOT NULL,
    recurrence   text,
    position     real    NOT NULL,
    metadata     text    NOT NULL, -- a JSON object
    created_at   text    NOT NULL,
    updated_at   text    NOT NULL,
    completed_at text,
    deleted_at   text,
    version      integer NOT NULL CHECK (version > 0)
) STRICT;

CREATE INDEX tasks_by_update ON tasks (updated_at, id);
CREATE INDEX tasks_by_due ON tasks (due, id);
CREATE INDEX tasks_by_project ON tasks (project, id) WHERE project IS NOT NULL;
CREATE INDEX tasks_by_assignee ON tasks (assignee, id) WHERE assignee IS NOT NULL;
CREATE INDEX tasks_by_parent ON tasks (parent, id) WHERE parent IS NOT NULL;
CREATE INDEX tasks_deleted ON tasks (deleted_at) WHERE deleted_at IS NOT NULL;

-- What search finds a task by. The service cuts the words, the same for every storage; the ascii tokenizer
-- takes them as they come: it splits at white space and leaves everything beyond ASCII alone.
CREATE VIRTUAL TABLE task_words USING fts5 (words, tokenize = 'ascii', detail = 'none');

-- The change feed. There is one writer at a time, so its numbers are the order of the commits.
CREATE TABLE changes (
    number integer PRIMARY KEY AUTOINCREMENT,
    at     text NOT NULL,
    type   text NOT NULL,
    task   text NOT NULL -- JSON, as the change left it
) STRICT;
CREATE INDEX changes_by_time ON changes (at);

-- Up to where the feed is gone: one row.
CREATE TABLE changes_purged (number integer NOT NULL) STRICT;
INSERT INTO changes_purged VALUES (0);

-- What requests with an Idempotency-Key were answered.
CREATE TABLE answers (
    subject     text    NOT NULL,
    key         text    NOT NULL,
    fingerprint text    NOT NULL,
    status      integer NOT NULL,
    body        text    NOT NULL,
    at          text    NOT NULL,
    PRIMARY KEY (subject, key)
) STRICT;
CREATE INDEX answers_by_time ON answers (at);
