-- Times are ISO 8601 in UTC with microseconds: as text they sort as they should.
CREATE TABLE tasks (
    id           text    PRIMARY KEY, -- UUIDv7: its order is the order of creation
    title        text    NOT NULL,
    description  text,
    status       text    NOT NULL CHECK (status IN ('todo', 'in_progress', 'done', 'cancelled')),
    created_at   text    NOT NULL,
    updated_at   text    NOT NULL,
    completed_at text,
    version      integer NOT NULL CHECK (version > 0)
) STRICT, WITHOUT ROWID;
