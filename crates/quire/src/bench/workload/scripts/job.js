// Objects, maps, strings and buffers of a chosen size in MB, built, visited in shuffled orders, changed and let go; prints a
// digest that depends on the size alone.
"use strict";

const megabytes = Number(process.argv[2]);

let state = 20240;
function below(end) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % end;
}

let sum = 0;
function note(value) {
  sum = (Math.imul(sum, 31) + value) | 0;
}

function shuffled(count) {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = below(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

// A quarter in buffers, whose noise compresses about 2:1.
const buffers = Array.from({ length: megabytes * 16 }, () => {
  const buffer = Buffer.alloc(16384);
  for (let at = 0; at < 8192; at += 4) buffer.writeInt32LE(below(0x7fffffff), at);
  return buffer;
});

// The rest in small objects under keys of two kinds.
const items = new Map();
const names = new Map();
const count = megabytes * 2000;
for (let i = 0; i < count; i++) {
  const item = { id: i, name: "item-" + below(0x7fffffff).toString(16), rank: below(1000) / 7, tags: [i, below(count)] };
  items.set(i, item);
  if (i % 4 === 0) names.set(item.name, item);
}

for (let pass = 0; pass < 2; pass++) {
  for (const i of shuffled(count)) {
    const item = items.get(i);
    note(item.tags[1] + Math.floor(item.rank));
    if (i % 5 === pass) item.tags = [item.tags[1], i + pass];
    if (i % 9 === pass) items.set(i, { ...item, name: item.name + "-" + pass });
  }
  for (const i of shuffled(buffers.length)) {
    buffers[i].writeInt32LE(below(0x7fffffff), 4 * below(4096));
    for (let at = 0; at < 16384; at += 64) note(buffers[i].readInt32LE(at));
  }
}
for (const [name, item] of names) note(name.length + item.id);
const sorted = [...items.values()].sort((a, b) => a.rank - b.rank || a.id - b.id);
for (let i = 0; i < sorted.length; i += 3) note(sorted[i].id + sorted[i].name.length);
console.log("node: %d MB, digest %s", megabytes, (sum >>> 0).toString(16));
