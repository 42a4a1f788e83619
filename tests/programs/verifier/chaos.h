/* The chaos phase: each arena belongs to one thread at a time and holds mappings in slots. */
#ifndef CHAOS_H
#define CHAOS_H

#include "verifier.h"

#include <sys/types.h>

#define MAX_SLOTS 64
#define MAX_HEAP 64

/* Pages a thread may have locked at once, and the longest run it locks. */
#define MAX_LOCKED 64

/* A run of mapped pages. Its cells are the first `pages` of its place in the arena's table. */
struct slot {
	uint8_t *base;
	size_t pages;
};

/* A piece of malloc's memory: words that follow from `key`. */
struct heap_piece {
	uint64_t *words;
	size_t count;
	uint64_t key;
};

/* How a call ended. SKIPPED: nothing suitable was mapped. REFUSED: the call failed and changed nothing. */
enum outcome { DONE, REFUSED, SKIPPED };

struct arena {
	unsigned number;
	struct rng rng;
	uint32_t next_page;
	size_t mapped, locked;
	/* Pages the arena may map in all, and in one slot. */
	size_t quota, slot_pages;
	struct slot slots[MAX_SLOTS];
	struct cell *cells;
	struct heap_piece heap[MAX_HEAP];
	/* The child that checks a copy of the slots and cells, or 0. */
	pid_t child;
	struct slot child_slots[MAX_SLOTS];
	struct cell *child_cells;
};

/* Part of a slot. */
struct run {
	struct slot *slot;
	size_t first, count;
};

typedef bool (*cell_test)(const struct cell *cell);

/* arena.c */
void arena_open(struct arena *arena, unsigned number, size_t quota, size_t slot_pages);
struct cell *slot_cells(struct arena *arena, const struct slot *slot);
struct slot *slot_free(struct arena *arena);
struct slot *slot_any(struct arena *arena);
void slot_take(struct arena *arena, struct slot *slot, uint8_t *base, size_t pages, enum page_access access);
void slot_extend(struct arena *arena, struct slot *slot, size_t pages, enum page_access access);
void slot_forget(struct arena *arena, struct slot *slot);
struct slot *slot_detach(struct arena *arena, const struct run *run);
bool run_pick(struct arena *arena, struct run *run, size_t most, cell_test test);
struct slot *slot_pick(struct arena *arena, size_t most, cell_test test);
uint8_t *run_base(const struct run *run);
struct cell *run_cells(struct arena *arena, const struct run *run);
bool is_any(const struct cell *cell);
bool is_readable(const struct cell *cell);
bool is_writable(const struct cell *cell);
bool is_unlocked(const struct cell *cell);
bool is_plain(const struct cell *cell);
bool is_guarded(const struct cell *cell);

/* mappings.c: calls that change mappings. */
enum outcome op_map(struct arena *arena);
enum outcome op_map_over(struct arena *arena);
enum outcome op_map_file_over(struct arena *arena);
enum outcome op_look(struct arena *arena);
enum outcome op_unmap(struct arena *arena);
enum outcome op_grow(struct arena *arena);
enum outcome op_shrink(struct arena *arena);
void *slot_move(const struct slot *slot, int flags);
enum outcome op_move(struct arena *arena);
enum outcome op_move_keeping(struct arena *arena);
enum outcome op_discard(struct arena *arena);
enum outcome op_free(struct arena *arena);
enum outcome op_hint(struct arena *arena);
enum outcome op_protect_none(struct arena *arena);
enum outcome op_protect_read(struct arena *arena);
enum outcome op_unprotect(struct arena *arena);
enum outcome op_lock(struct arena *arena);
enum outcome op_unlock(struct arena *arena);

/* probes.c */
void probes_open(void);
void must_trap(volatile uint64_t *word, bool write, int expected);
void probe(struct arena *arena);
void probes_report(void);

/* fork.c */
enum outcome op_fork(struct arena *arena);
enum outcome op_reap(struct arena *arena);
void child_wait(struct arena *arena);

#endif
