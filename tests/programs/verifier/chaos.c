/* The chaos phase: which call comes next, and the accesses that compare memory with the model. */
#define _GNU_SOURCE
#include "chaos.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Threads live this long; then they are joined, and the next ones take over the arenas of others. */
#define ROUND_SECONDS 0.5
#define LONGEST_RUN 64
#define LONGEST_PIPE 8
#define LONGEST_HEAP (1UL << 16)
#define SHARED_VISITS 16

struct chaos {
	struct arena *arenas[MAX_THREADS];
	unsigned round;
	double round_end;
	double next_fork[MAX_THREADS];
	/* A mapping in which each thread owns every n-th page. */
	uint8_t *shared;
	struct cell *shared_cells;
	size_t shared_pages;
};

static struct chaos chaos;

static enum outcome check_run(struct arena *arena, const struct run *run)
{
	const struct cell *cells = run_cells(arena, run);
	for (size_t i = 0; i < run->count; i++)
		if (is_readable(&cells[i]))
			page_check(run_base(run) + i * PAGE, &cells[i], &arena->rng);
	return DONE;
}

static enum outcome write_run(struct arena *arena, const struct run *run)
{
	struct cell *cells = run_cells(arena, run);
	for (size_t i = 0; i < run->count; i++)
		if (is_writable(&cells[i]))
			page_write(run_base(run) + i * PAGE, &cells[i]);
	return DONE;
}

static enum outcome op_read(struct arena *arena)
{
	struct run run;
	return run_pick(arena, &run, LONGEST_RUN, is_readable) ? check_run(arena, &run) : SKIPPED;
}

static enum outcome op_write(struct arena *arena)
{
	struct run run;
	return run_pick(arena, &run, LONGEST_RUN, is_writable) ? write_run(arena, &run) : SKIPPED;
}

static enum outcome op_scan(struct arena *arena)
{
	struct slot *slot = slot_any(arena);
	return slot ? check_run(arena, &(struct run){slot, 0, slot->pages}) : SKIPPED;
}

static enum outcome op_fill(struct arena *arena)
{
	struct slot *slot = slot_any(arena);
	return slot ? write_run(arena, &(struct run){slot, 0, slot->pages}) : SKIPPED;
}

/* Sends pages through a pipe: the kernel reads them, and their faults come from inside it. */
static enum outcome op_pipe_out(struct arena *arena)
{
	struct run run;
	int ends[2];
	if (!run_pick(arena, &run, LONGEST_PIPE, is_readable) || pipe(ends))
		return SKIPPED;
	size_t bytes = run.count * PAGE;
	uint8_t copy[LONGEST_PIPE * PAGE] __attribute__((aligned(PAGE)));
	if (write(ends[1], run_base(&run), bytes) != (ssize_t)bytes)
		die("write from managed memory");
	for (size_t got = 0; got < bytes;) {
		ssize_t more = read(ends[0], copy + got, bytes - got);
		if (more <= 0)
			die("read from the pipe");
		got += (size_t)more;
	}
	for (size_t i = 0; i < run.count; i++)
		page_check_whole(copy + i * PAGE, &run_cells(arena, &run)[i]);
	close(ends[0]);
	close(ends[1]);
	return DONE;
}

/* The other way: the kernel writes the pages. */
static enum outcome op_pipe_in(struct arena *arena)
{
	struct run run;
	int ends[2];
	if (!run_pick(arena, &run, LONGEST_PIPE, is_writable) || pipe(ends))
		return SKIPPED;
	size_t bytes = run.count * PAGE;
	uint8_t copy[LONGEST_PIPE * PAGE] __attribute__((aligned(PAGE)));
	for (size_t i = 0; i < run.count; i++)
		page_write(copy + i * PAGE, &run_cells(arena, &run)[i]);
	if (write(ends[1], copy, bytes) != (ssize_t)bytes)
		die("write to the pipe");
	for (size_t got = 0; got < bytes;) {
		ssize_t more = read(ends[0], run_base(&run) + got, bytes - got);
		if (more <= 0)
			die("read into managed memory");
		got += (size_t)more;
	}
	close(ends[0]);
	close(ends[1]);
	return check_run(arena, &run);
}

static void heap_write(struct heap_piece *piece, size_t first)
{
	for (size_t i = first; i < piece->count; i++)
		piece->words[i] = pattern_word(piece->key, i);
}

static void heap_check(const struct heap_piece *piece, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (piece->words[i] != pattern_word(piece->key, i))
			fail("word of the heap", &piece->words[i], pattern_word(piece->key, i),
			     piece->words[i]);
}

/* malloc, realloc or free; what one thread allocated another may free. */
static enum outcome op_heap(struct arena *arena)
{
	struct heap_piece *piece = &arena->heap[rng_below(&arena->rng, MAX_HEAP)];
	size_t count = 1 + rng_log_uniform(&arena->rng, LONGEST_HEAP);
	if (piece->words && rng_below(&arena->rng, 2)) {
		heap_check(piece, piece->count);
		free(piece->words);
		piece->words = NULL;
		return DONE;
	}
	size_t kept = piece->words ? (piece->count < count ? piece->count : count) : 0;
	uint64_t *words = realloc(piece->words, count * sizeof(*words));
	if (!words)
		return REFUSED;
	uint64_t key = kept ? piece->key : rng_next(&arena->rng);
	*piece = (struct heap_piece){words, count, key};
	heap_check(piece, kept);
	heap_write(piece, kept);
	return DONE;
}

/* Reads and writes pages that lie between pages of other threads, which do the same at the same time. */
static enum outcome op_shared(struct arena *arena)
{
	size_t own = (chaos.shared_pages - arena->number + options.threads - 1) / options.threads;
	for (unsigned i = 0; i < SHARED_VISITS; i++) {
		size_t page = rng_below(&arena->rng, own) * options.threads + arena->number;
		struct cell *cell = &chaos.shared_cells[page];
		page_check(chaos.shared + page * PAGE, cell, &arena->rng);
		if (rng_below(&arena->rng, 2))
			page_write(chaos.shared + page * PAGE, cell);
	}
	return DONE;
}

/* Touches what is protected: it must trap, whether the page is resident, stored or empty. */
static enum outcome op_trespass(struct arena *arena)
{
	struct run run;
	if (!run_pick(arena, &run, 1, is_guarded))
		return SKIPPED;
	bool write = run_cells(arena, &run)->access != ACCESS_NONE || rng_below(&arena->rng, 2);
	must_trap((volatile uint64_t *)run_base(&run), write, SEGV_ACCERR);
	return DONE;
}

struct op {
	const char *name;
	unsigned weight;
	enum outcome (*act)(struct arena *arena);
};

static const struct op ops[] = {
	{"read", 300, op_read},
	{"write", 300, op_write},
	{"scan", 8, op_scan},
	{"fill", 12, op_fill},
	{"map", 40, op_map},
	{"map_over", 4, op_map_over},
	{"map_file_over", 4, op_map_file_over},
	{"look", 12, op_look},
	{"unmap", 24, op_unmap},
	{"grow", 12, op_grow},
	{"shrink", 6, op_shrink},
	{"move", 8, op_move},
	{"move_keeping", 3, op_move_keeping},
	{"discard", 16, op_discard},
	{"free", 8, op_free},
	{"hint", 24, op_hint},
	{"protect_none", 8, op_protect_none},
	{"protect_read", 8, op_protect_read},
	{"unprotect", 24, op_unprotect},
	{"lock", 10, op_lock},
	{"unlock", 10, op_unlock},
	{"trespass", 8, op_trespass},
	{"pipe_out", 12, op_pipe_out},
	{"pipe_in", 12, op_pipe_in},
	{"heap", 60, op_heap},
	{"shared", 40, op_shared},
	{"reap", 10, op_reap},
};

#define OP_COUNT (sizeof(ops) / sizeof(*ops))

/* By op, then by arena, so that threads don't count into each other's. */
static uint64_t counts[OP_COUNT][2][MAX_THREADS];
static uint64_t forks[MAX_THREADS];

static size_t choose_op(struct rng *rng)
{
	unsigned total = 0;
	for (size_t i = 0; i < OP_COUNT; i++)
		total += ops[i].weight;
	size_t ticket = rng_below(rng, total);
	size_t op = 0;
	while (ticket >= ops[op].weight)
		ticket -= ops[op++].weight;
	return op;
}

static void maybe_fork(struct arena *arena)
{
	if (now() < chaos.next_fork[arena->number])
		return;
	chaos.next_fork[arena->number] = now() + options.fork_seconds * options.threads;
	forks[arena->number] += op_fork(arena) == DONE;
}

static void chaos_thread(unsigned thread, void *context)
{
	(void)context;
	struct arena *arena = chaos.arenas[(thread + chaos.round) % options.threads];
	while (now() < chaos.round_end) {
		size_t op = choose_op(&arena->rng);
		enum outcome outcome = ops[op].act(arena);
		if (outcome != SKIPPED)
			counts[op][outcome][arena->number]++;
		maybe_fork(arena);
		beat(thread);
	}
}

/* Compares all that is mapped, and gives it back. */
static void settle(unsigned thread, void *context)
{
	(void)context;
	struct arena *arena = chaos.arenas[thread];
	for (size_t i = 0; i < MAX_SLOTS; i++) {
		struct slot *slot = &arena->slots[i];
		for (size_t page = 0; page < slot->pages; page++) {
			if (is_readable(&slot_cells(arena, slot)[page]))
				page_check_whole(slot->base + page * PAGE, &slot_cells(arena, slot)[page]);
			beat(thread);
		}
		if (slot->pages)
			munmap(slot->base, slot->pages * PAGE);
	}
	for (size_t i = 0; i < MAX_HEAP; i++) {
		heap_check(&arena->heap[i], arena->heap[i].words ? arena->heap[i].count : 0);
		free(arena->heap[i].words);
	}
	child_wait(arena);
}

static void chaos_open(void)
{
	size_t pages = options.bytes / PAGE;
	size_t quota = pages * 7 / 8 / options.threads;
	size_t slot_pages = quota / 6 > 16 ? quota / 6 : 16;
	for (unsigned i = 0; i < options.threads; i++) {
		chaos.arenas[i] = map_unmanaged(sizeof(struct arena));
		arena_open(chaos.arenas[i], i, quota, slot_pages);
	}
	chaos.shared_pages = pages / 8;
	chaos.shared = map_managed(chaos.shared_pages * PAGE);
	chaos.shared_cells = map_unmanaged(chaos.shared_pages * sizeof(struct cell));
	for (size_t i = 0; i < chaos.shared_pages; i++)
		chaos.shared_cells[i] = (struct cell){.page = ~(uint32_t)i, .access = ACCESS_WRITE};
	probes_open();
}

/* All the refused calls of one kind as "<name>_refused". The names live as long as the program. */
static const char *refused_name(const char *name)
{
	char *text = map_unmanaged(PAGE);
	strcat(strcpy(text, name), "_refused");
	return text;
}

static void report(double seconds)
{
	uint64_t total = 0, fork_total = 0;
	for (size_t op = 0; op < OP_COUNT; op++) {
		uint64_t sums[2] = {0, 0};
		for (unsigned i = 0; i < options.threads; i++) {
			sums[DONE] += counts[op][DONE][i];
			sums[REFUSED] += counts[op][REFUSED][i];
		}
		total += sums[DONE];
		result("chaos", ops[op].name, (double)sums[DONE]);
		if (sums[REFUSED])
			result("chaos", refused_name(ops[op].name), (double)sums[REFUSED]);
	}
	for (unsigned i = 0; i < options.threads; i++)
		fork_total += forks[i];
	result("chaos", "fork", (double)fork_total);
	probes_report();
	result("chaos", "us_per_op", seconds * 1e6 / (double)total);
}

void phase_chaos(double seconds)
{
	chaos_open();
	double start = now(), end = start + seconds;
	do {
		chaos.round_end = now() + ROUND_SECONDS < end ? now() + ROUND_SECONDS : end;
		run_threads(chaos_thread, NULL);
		chaos.round++;
		for (unsigned i = 0; i < options.threads; i++)
			probe(chaos.arenas[i]);
	} while (now() < end);
	report(now() - start);
	run_threads(settle, NULL);
}
