/* What a page holds, and the comparison of memory with the model. */
#include "verifier.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN 0x9e3779b97f4a7c15UL
/* One check in this many compares the whole page, the others 8 words spread over it. */
#define WHOLE_EVERY 16
#define SPREAD 8

uint64_t mix(uint64_t value)
{
	value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9UL;
	value = (value ^ (value >> 27)) * 0x94d049bb133111ebUL;
	return value ^ (value >> 31);
}

uint64_t rng_next(struct rng *rng)
{
	rng->state += GOLDEN;
	return mix(rng->state);
}

size_t rng_below(struct rng *rng, size_t bound)
{
	return bound ? rng_next(rng) % bound : 0;
}

/* 1..=most, each power of two as likely as any other. */
size_t rng_log_uniform(struct rng *rng, size_t most)
{
	unsigned bits = 1;
	while (most >> bits)
		bits++;
	size_t bound = 1UL << rng_below(rng, bits + 1);
	return 1 + rng_below(rng, bound < most ? bound : most);
}

/*
 * How well a page compresses. Bit k of `random` says whether the words k, k+8, k+16 .. are random; the
 * others repeat one word. lz4 makes of these 1:0, about 3:1, 1.5:1 and 1:1.
 */
struct mode {
	uint8_t random;
	bool zero;
};

static struct mode mode_of(uint64_t key)
{
	static const struct mode modes[8] = {
		{0x00, true}, {0x11, false}, {0x11, false}, {0x11, false},
		{0x1f, false}, {0x1f, false}, {0x1f, false}, {0xff, false},
	};
	return modes[key >> 61];
}

static inline uint64_t word_of(struct mode mode, uint64_t key, size_t index)
{
	if ((mode.random >> (index % 8)) & 1)
		return mix(key + index * GOLDEN);
	return mode.zero ? 0 : key;
}

uint64_t pattern_word(uint64_t key, size_t index)
{
	return word_of(mode_of(key), key, index);
}

static uint64_t key_of(const struct cell *cell)
{
	return mix(options.seed ^ mix((uint64_t)cell->page << 32 | cell->generation));
}

void page_write(void *page, struct cell *cell)
{
	cell->generation++;
	cell->state = PAGE_DATA;
	uint64_t key = key_of(cell);
	struct mode mode = mode_of(key);
	uint64_t *words = page;
	for (size_t i = 0; i < PAGE_WORDS; i++)
		words[i] = word_of(mode, key, i);
}

void fail(const char *what, const void *address, uint64_t expected, uint64_t got)
{
	dprintf(STDERR_FILENO, "verifier: MISMATCH: %s at %p: expected %016lx, got %016lx\n", what, address,
		expected, got);
	_exit(EXIT_MISMATCH);
}

/* Which words to compare: `count` of them, the k-th in the k-th part of the page. */
struct probe {
	size_t count;
	uint64_t random;
};

static size_t probe_index(const struct probe *probe, size_t k)
{
	size_t part = PAGE_WORDS / probe->count;
	return k * part + (probe->random >> (6 * k % 48)) % part;
}

/* The first word that differs from what the cell says in state `state`, or PAGE_WORDS. */
static size_t first_wrong(const volatile uint64_t *words, const struct cell *cell, enum page_state state,
			  const struct probe *probe)
{
	uint64_t key = key_of(cell);
	struct mode mode = mode_of(key);
	for (size_t k = 0; k < probe->count; k++) {
		size_t index = probe_index(probe, k);
		uint64_t expected = state == PAGE_ZERO ? 0 : word_of(mode, key, index);
		if (words[index] != expected)
			return index;
	}
	return PAGE_WORDS;
}

/* A page that may be zeros or data is wholly the one or the other; it may turn to zeros while we look. */
static bool either_is_right(const void *page, const struct cell *cell, const struct probe *probe)
{
	return first_wrong(page, cell, PAGE_DATA, probe) == PAGE_WORDS ||
	       first_wrong(page, cell, PAGE_ZERO, probe) == PAGE_WORDS;
}

static void compare(const void *page, const struct cell *cell, const struct probe *probe)
{
	if (cell->state == PAGE_EITHER && either_is_right(page, cell, probe))
		return;
	enum page_state state = cell->state == PAGE_ZERO ? PAGE_ZERO : PAGE_DATA;
	size_t index = first_wrong(page, cell, state, probe);
	if (index == PAGE_WORDS)
		return;
	char what[96];
	snprintf(what, sizeof(what), "page %u generation %u state %u word %zu", cell->page, cell->generation,
		 cell->state, index);
	uint64_t expected = state == PAGE_ZERO ? 0 : pattern_word(key_of(cell), index);
	fail(what, (const uint64_t *)page + index, expected, ((const volatile uint64_t *)page)[index]);
}

void page_check_whole(const void *page, const struct cell *cell)
{
	struct probe probe = {.count = PAGE_WORDS, .random = 0};
	compare(page, cell, &probe);
}

void page_check(const void *page, const struct cell *cell, struct rng *rng)
{
	struct probe probe = {.count = SPREAD, .random = rng_next(rng)};
	if (probe.random % WHOLE_EVERY == 0)
		probe = (struct probe){.count = PAGE_WORDS, .random = 0};
	compare(page, cell, &probe);
}
