"""Frames of a chosen number of rows in polars: joined, sorted and grouped. What is printed depends on that alone."""

import sys

import polars as pl

rows = int(sys.argv[1])
ids = pl.select(id=pl.int_range(0, rows, dtype=pl.UInt64)).with_columns(mixed=pl.col("id") * 2654435761 % 4294967291)
items = ids.with_columns(
    key=pl.col("mixed") % (rows // 10),
    price=(pl.col("mixed") % 100003).cast(pl.Float64) / 7,
    name=pl.lit("item-") + (pl.col("mixed") * 69069 % 16777213).cast(pl.String),
)
keys = items.group_by("key").agg(pl.len(), pl.col("price").sum().alias("total"), pl.col("name").max())
joined = items.join(keys, on="key", suffix="-of-key").sort("mixed")
ranked = joined.with_columns(rank=pl.col("price").rank("ordinal").over("key"))
top = ranked.filter(pl.col("rank") <= 2).sort("total", "id")
print("polars: %d rows, %d keys, %d at the top" % (rows, keys.height, top.height))
print(joined["name"][rows // 3], joined["name-of-key"][rows // 2], top["id"].head(5).to_list())
print("%.3f" % ranked.select((pl.col("rank") * pl.col("price").round()).sum()).item())
