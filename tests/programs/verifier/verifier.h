/*
 * The verifier: threads that use anonymous memory in every way a program may, checked against a model.
 *
 * What each page must hold follows from (seed, page number, generation) alone, so the model is a table of
 * small cells. The table lives in MAP_SHARED|MAP_ANONYMOUS memory, which Quire never manages: a pager that
 * loses pages cannot lose the evidence.
 *
 *   model.c   what a page holds, and the comparison      sweep.c   sequential and random phases
 *   chaos.c   random calls on mappings                   fork.c    children that check a snapshot
 *   probes.c  touches that must trap                     main.c    options, threads, watchdog, results
 */
#ifndef VERIFIER_H
#define VERIFIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE 4096UL
#define PAGE_WORDS (PAGE / sizeof(uint64_t))
#define MAX_THREADS 64

/* Exit statuses. */
enum { EXIT_MATCH = 0, EXIT_MISMATCH = 1, EXIT_USAGE = 2, EXIT_HANG = 3, EXIT_SYSTEM = 4 };

/* What a page may hold. PAGE_EITHER: zeros or its last contents (after MADV_FREE). */
enum page_state { PAGE_ZERO, PAGE_DATA, PAGE_EITHER };

enum page_access { ACCESS_NONE, ACCESS_READ, ACCESS_WRITE };

/* The model of one page. `page` is a number given once and never again. */
struct cell {
	uint32_t page;
	uint32_t generation;
	uint8_t state;
	uint8_t access;
	uint8_t locked;
};

struct rng {
	uint64_t state;
};

struct options {
	unsigned threads;
	uint64_t seed;
	double seconds;
	size_t bytes;
	const char *phase;
	const char *json;
	/* Between two forks of the chaos phase. */
	double fork_seconds;
	/* Loses some pages on purpose in the random phase: the verifier must notice. */
	bool sabotage;
};

extern struct options options;

/* model.c */
uint64_t mix(uint64_t value);
uint64_t rng_next(struct rng *rng);
size_t rng_below(struct rng *rng, size_t bound);
size_t rng_log_uniform(struct rng *rng, size_t most);
uint64_t pattern_word(uint64_t key, size_t index);
void page_write(void *page, struct cell *cell);
void page_check(const void *page, const struct cell *cell, struct rng *rng);
void page_check_whole(const void *page, const struct cell *cell);
void fail(const char *what, const void *address, uint64_t expected, uint64_t got)
	__attribute__((noreturn));

/* main.c */
double now(void);
void *map_unmanaged(size_t bytes);
void *map_managed(size_t bytes);
void die(const char *what) __attribute__((noreturn));
void beat(unsigned thread);
double run_threads(void (*work)(unsigned thread, void *context), void *context);

/* One line of results: a name and a number. The summary and the JSON both print them. */
void result(const char *phase, const char *name, double value);

/* sweep.c, chaos.c: the phases. */
void phase_sequential(double seconds);
void phase_random(double seconds);
void phase_chaos(double seconds);

#endif
