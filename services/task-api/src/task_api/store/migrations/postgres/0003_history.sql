-- A place in the change feed that no other history has. Where a database was restored, or a failover lost the last
-- transactions, PostgreSQL gives the same transaction numbers out once more, for other changes. Pods of the release
-- before write by the same defaults, and a place that they or their readers hold stays one.

-- Who reads the tables for long (a dump does) holds this up, and it would hold up everybody: better to try again.
SET LOCAL lock_timeout = '3s';

-- A number ends with 24 random bits. It grows within a transaction, which is all that its order is for.
ALTER TABLE changes ALTER number DROP IDENTITY;
CREATE SEQUENCE changes_number_seq OWNED BY changes.number;
ALTER TABLE changes ALTER number SET DEFAULT
    nextval('changes_number_seq') * 16777216 + floor(random() * 16777216)::bigint;

-- How far xid is ahead of the transactions of this server: a dump may come from one that had counted further.
ALTER TABLE changes_purged ADD COLUMN ahead bigint NOT NULL DEFAULT 0;

-- Brings it up to date and returns it, when the feed is written or read: an entry as late as a transaction that this
-- server has not begun is from another. OR REPLACE: a dump of an older release restored over these tables leaves it.
CREATE OR REPLACE FUNCTION changes_ahead() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    seen record;
BEGIN
    FOR look IN 1..2 LOOP
        SELECT ahead,
               greatest(xid, (SELECT xid FROM changes ORDER BY xid DESC LIMIT 1))::text::bigint AS newest,
               greatest(pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
                        pg_current_xact_id_if_assigned()::text::bigint + 1) AS not_begun,
               pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS not_ended
          INTO STRICT seen FROM changes_purged;
        IF seen.newest < seen.not_begun + seen.ahead THEN
            RETURN seen.ahead;
        END IF;
        PERFORM FROM changes_purged FOR UPDATE; -- of several at once one goes on, and the others look again
    END LOOP;
    UPDATE changes_purged SET ahead = seen.newest + 1 - seen.not_ended;
    RETURN seen.newest + 1 - seen.not_ended;
END
$$;

-- The xid of an entry. Mostly it comes after the newest one's, and there is nothing else to look at: that takes 14 us,
-- all of it 35.
CREATE OR REPLACE FUNCTION changes_xid() RETURNS xid8 LANGUAGE plpgsql AS $$
DECLARE
    ahead bigint;
    newest xid8;
BEGIN
    SELECT purged.ahead, (SELECT xid FROM changes ORDER BY xid DESC LIMIT 1)
      INTO STRICT ahead, newest FROM changes_purged AS purged;
    IF ahead = 0 AND newest < pg_current_xact_id() THEN
        RETURN pg_current_xact_id();
    END IF;
    RETURN (pg_current_xact_id()::text::bigint + changes_ahead())::text::xid8;
END
$$;
ALTER TABLE changes ALTER xid SET DEFAULT changes_xid();
