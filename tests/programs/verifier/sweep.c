/* The sequential and the random phase: one large mapping, pages written and compared. */
#define _GNU_SOURCE
#include "verifier.h"

#include <string.h>
#include <sys/mman.h>

/* One random access in this many rewrites its page, the others compare it. */
#define WRITE_EVERY 4

struct sweep {
	uint8_t *base;
	struct cell *cells;
	uint32_t *order;
	size_t pages;
	double deadline;
	/* Pages populated, then random accesses made, by thread. */
	size_t accesses[MAX_THREADS];
};

static void sweep_open(struct sweep *sweep)
{
	sweep->pages = options.bytes / PAGE;
	sweep->base = map_managed(sweep->pages * PAGE);
	sweep->cells = map_unmanaged(sweep->pages * sizeof(struct cell));
	for (size_t i = 0; i < sweep->pages; i++)
		sweep->cells[i] = (struct cell){.page = (uint32_t)i, .access = ACCESS_WRITE};
}

static void sweep_close(struct sweep *sweep)
{
	munmap(sweep->base, sweep->pages * PAGE);
	munmap(sweep->cells, sweep->pages * sizeof(struct cell));
}

static size_t part_start(const struct sweep *sweep, unsigned thread)
{
	return sweep->pages * thread / options.threads;
}

static void fill_part(unsigned thread, void *context)
{
	struct sweep *sweep = context;
	size_t end = part_start(sweep, thread + 1);
	for (size_t i = part_start(sweep, thread); i < end; i++) {
		page_write(sweep->base + i * PAGE, &sweep->cells[i]);
		beat(thread);
	}
}

static void scan_part(unsigned thread, void *context)
{
	struct sweep *sweep = context;
	struct rng rng = {options.seed + thread};
	size_t end = part_start(sweep, thread + 1);
	for (size_t i = part_start(sweep, thread); i < end; i++) {
		page_check(sweep->base + i * PAGE, &sweep->cells[i], &rng);
		beat(thread);
	}
}

/* Fill, scan, scan, until the time is up, at least once. */
void phase_sequential(double seconds)
{
	struct sweep sweep = {0};
	sweep_open(&sweep);
	double deadline = now() + seconds, fill = 0, scan = 0;
	size_t rounds = 0;
	do {
		fill += run_threads(fill_part, &sweep);
		scan += run_threads(scan_part, &sweep);
		scan += run_threads(scan_part, &sweep);
		rounds++;
	} while (now() < deadline);
	double pages = (double)(sweep.pages * rounds);
	result("sequential", "rounds", (double)rounds);
	result("sequential", "fill_us_per_page", fill * 1e6 / pages);
	result("sequential", "scan_us_per_page", scan * 1e6 / (2 * pages));
	sweep_close(&sweep);
}

static void shuffle(uint32_t *order, size_t count)
{
	struct rng rng = {options.seed ^ 0x5eed};
	for (size_t i = 0; i < count; i++)
		order[i] = (uint32_t)i;
	for (size_t i = count; i > 1; i--) {
		size_t j = rng_below(&rng, i);
		uint32_t other = order[j];
		order[j] = order[i - 1];
		order[i - 1] = other;
	}
}

/*
 * Writes each page once, in shuffled order, so that the mapping is full but nothing was sequential. Gives up at the
 * deadline: with folios of one large size this can take minutes. Pages not reached must read as zeros.
 */
static void populate_part(unsigned thread, void *context)
{
	struct sweep *sweep = context;
	size_t end = part_start(sweep, thread + 1);
	for (size_t i = part_start(sweep, thread); i < end && (i % 64 || now() < sweep->deadline); i++) {
		size_t page = sweep->order[i];
		page_write(sweep->base + page * PAGE, &sweep->cells[page]);
		sweep->accesses[thread]++;
		beat(thread);
	}
}

/* Uniform over the thread's own pages, which lie between those of the other threads. */
static void random_part(unsigned thread, void *context)
{
	struct sweep *sweep = context;
	struct rng rng = {mix(options.seed + thread)};
	size_t own = (sweep->pages - thread + options.threads - 1) / options.threads;
	size_t done = 0;
	while (done % 64 || now() < sweep->deadline) {
		size_t page = rng_below(&rng, own) * options.threads + thread;
		struct cell *cell = &sweep->cells[page];
		page_check(sweep->base + page * PAGE, cell, &rng);
		if (rng_below(&rng, WRITE_EVERY) == 0)
			page_write(sweep->base + page * PAGE, cell);
		done++;
		beat(thread);
	}
	sweep->accesses[thread] = done;
}

static size_t total_accesses(const struct sweep *sweep)
{
	size_t total = 0;
	for (unsigned i = 0; i < options.threads; i++)
		total += sweep->accesses[i];
	return total;
}

void phase_random(double seconds)
{
	struct sweep sweep = {0};
	sweep_open(&sweep);
	sweep.order = map_unmanaged(sweep.pages * sizeof(*sweep.order));
	shuffle(sweep.order, sweep.pages);
	sweep.deadline = now() + seconds;
	double populate = run_threads(populate_part, &sweep);
	size_t populated = total_accesses(&sweep);
	if (options.sabotage)
		memset(sweep.base + sweep.pages / 2 * PAGE, 0, PAGE * options.threads * 16);
	sweep.deadline = now() + seconds;
	double random = run_threads(random_part, &sweep);
	size_t accesses = total_accesses(&sweep);
	result("random", "populated", (double)populated / (double)sweep.pages);
	result("random", "accesses", (double)accesses);
	result("random", "populate_us_per_page", populate * 1e6 / (double)populated);
	result("random", "us_per_page", random * 1e6 / (double)accesses);
	munmap(sweep.order, sweep.pages * sizeof(*sweep.order));
	sweep_close(&sweep);
}
