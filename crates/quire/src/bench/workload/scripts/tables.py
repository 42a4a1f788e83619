"""Tables of a chosen number of rows in duckdb, in memory: made, joined, sorted and grouped. What is printed depends on that alone."""

import sys

import duckdb

rows = int(sys.argv[1])
# What it makes of the machine's memory is not to matter; sums are of integers, which threads may add in any order.
db = duckdb.connect(config={"threads": 2, "memory_limit": "8GB", "temp_directory": ""})
db.execute(
    """CREATE TABLE items AS SELECT id, mixed, mixed %% %d AS key, mixed %% 100003 AS price, 'item-' || (mixed * 69069 %% 16777213) AS name
    FROM (SELECT range AS id, range * 2654435761 %% 4294967291 AS mixed FROM range(%d))""" % (rows // 10, rows)
)
db.execute("CREATE TABLE keys AS SELECT key, count(*) AS items, sum(price) AS total, max(name) AS last FROM items GROUP BY key")
db.execute(
    """CREATE TABLE joined AS SELECT id, mixed, key, price, name, total, last FROM items JOIN keys USING (key)
    ORDER BY mixed, id"""
)
top = db.execute(
    """SELECT count(*), sum(id * place), max(name) FROM
    (SELECT id, name, rank() OVER (PARTITION BY key ORDER BY price DESC, id) AS place FROM joined) WHERE place <= 2"""
).fetchall()
db.execute("UPDATE items SET name = name || '-again', price = price + 1 WHERE key % 3 = 0")
changed = db.execute(
    "SELECT sum(items.price), count(DISTINCT items.name), max(items.name) FROM items JOIN joined USING (id) WHERE total % 2 = 0"
).fetchall()
print("duckdb: %d rows" % rows, db.execute("SELECT count(*), max(total), min(last) FROM keys").fetchall())
print(top, changed, db.execute("SELECT id, name FROM joined LIMIT 3 OFFSET ?", [rows // 2]).fetchall())
