PRAGMA temp_store = MEMORY;
CREATE TABLE item(id INTEGER PRIMARY KEY, key INTEGER, name TEXT, note TEXT, price REAL);
WITH RECURSIVE step(i, x) AS (
    SELECT 1, {seed}
    UNION ALL SELECT i + 1, (x * 1103515245 + 12345) % 2147483648 FROM step WHERE i < {rows}
)
INSERT INTO item SELECT i, (x * 48271) % 2147483647, printf('%08x-%08x-%08x', x, x * 69069 % 4294967296, i * 7919),
    printf('%x%x%x%x', x * 16807, x * 65539, x * 40692, x * 950706376) || substr('{filler}', 1, 180 + x % 120),
    x / 97.0 FROM step;
CREATE INDEX item_key ON item(key);
SELECT count(*), sum(key), sum(length(note)) FROM item;
WITH RECURSIVE step(i, x) AS (
    SELECT 1, {seed} + 5
    UNION ALL SELECT i + 1, (x * 1103515245 + 12345) % 2147483648 FROM step WHERE i < {lookups}
)
SELECT sum(price), sum(length(name)), max(name) FROM step JOIN item ON item.id = step.x % {rows} + 1;
UPDATE item SET note = substr(note, 9) || name WHERE key % 17 = 3;
DELETE FROM item WHERE key % 23 = 5;
SELECT name, price FROM item ORDER BY key LIMIT 5 OFFSET {half};
SELECT key % 100 AS bucket, count(*), sum(length(note)), total(price) FROM item GROUP BY bucket ORDER BY bucket;
SELECT sum(unicode(substr(note, 1 + id % 60, 1))) FROM item;
