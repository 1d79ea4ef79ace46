-- Realistic tasks, :rows of them over two years, for tests of query plans (test_plans.py, bench/size.py): most are done,
-- and most open ones are a few weeks old; a few huge projects, one of them finished long ago, and many small ones; labels
-- of every second task down to one in thousands, two of which never occur together.
-- Deterministic: r contains numbers in [0, 1), derived from the row number.
INSERT INTO tasks
SELECT ('01990000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
       'Task ' || (r[1] * 100000)::integer, repeat('It has not rained for a while. ', (r[2] * 8)::integer),
       status, CASE WHEN r[3] < 0.6 THEN 0 WHEN r[3] < 0.75 THEN 1 WHEN r[3] < 0.9 THEN 2 WHEN r[3] < 0.98 THEN 3 ELSE 4 END,
       due, NULL, due, CASE WHEN r[4] < 0.2 THEN created_at + r[5] * interval '30 days' END,
       array_remove(ARRAY[CASE WHEN r[6] < 0.5 THEN 'work' WHEN r[6] < 0.8 THEN 'home' END,
                          'label' || exp(r[7] * ln(5000))::integer,
                          CASE WHEN r[8] < 0.0005 THEN 'rare' END,
                          CASE WHEN n < :rows * 0.02 THEN 'old' END], NULL),
       CASE WHEN n < :rows * 0.3 AND r[9] < 0.3 THEN 'finished' WHEN r[9] < 0.3 THEN 'huge' WHEN r[9] < 0.4 THEN 'large'
            WHEN r[9] < 0.9 THEN 'project' || (power(r[10], 2) * :rows / 100)::integer END,
       CASE WHEN r[11] < 0.1 THEN ('01990000-0000-7000-8000-' || lpad(to_hex(n / 50), 12, '0'))::uuid END,
       CASE WHEN r[12] < 0.8 THEN 'somebody' || (power(r[13], 3) * 500)::integer END,
       0, NULL, n, '{"room": "kitchen"}', created_at, coalesce(completed_at, created_at + r[14] * interval '1 day'),
       completed_at, CASE WHEN r[15] < 0.01 THEN created_at + interval '20 days' END, 1,
       array_to_tsvector(ARRAY['task', 'word' || exp(r[16] * ln(10000))::integer, 'number' || n])
  FROM generate_series(1, :rows) AS n,
       LATERAL (SELECT array_agg((hashint8extended(n, k) & 1073741823) / 1073741824.0::float8 ORDER BY k)
                  FROM generate_series(1, 22) AS k) AS a (r),
       LATERAL (SELECT timestamptz '2025-01-01Z' + n * (interval '700 days' / :rows)) AS b (created_at),
       LATERAL (SELECT CASE WHEN r[17] < CASE WHEN n < :rows * 0.3 AND r[9] < 0.3 THEN 0 WHEN n > :rows * 0.9 THEN 0.4 ELSE 0.01 END
                            THEN CASE WHEN r[18] < 0.8 THEN 'todo' ELSE 'in_progress' END
                            ELSE CASE WHEN r[18] < 0.97 THEN 'done' ELSE 'cancelled' END END) AS c (status),
       LATERAL (SELECT CASE WHEN status IN ('done', 'cancelled') THEN created_at + r[19] * least(interval '20 days', timestamptz '2026-12-02Z' - created_at) END,
                       CASE WHEN r[20] < 0.6 THEN created_at + r[21] * r[22] * interval '90 days' END) AS d (completed_at, due);
