/*
 * Touches of what must not be touched: each ends in SIGSEGV at that address, with the code that tells what is not mapped
 * from what is protected, and no system call gets at it either. What was freed or moved away another thread may map at any
 * time, so those are probed while no other thread runs.
 */
#define _GNU_SOURCE
#include "chaos.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* Attempts of each kind on each arena, and pages that are looked at of each range. */
#define ATTEMPTS 8
#define SAMPLES 8
#define LONGEST 256

static __thread sigjmp_buf *volatile back;
static __thread void *volatile touched;
static __thread volatile int code;

static uint64_t probed[3];

static void on_segv(int signal, siginfo_t *info, void *context)
{
	(void)context;
	if (back && info->si_addr == touched && signal == SIGSEGV) {
		code = info->si_code;
		siglongjmp(*back, 1);
	}
	dprintf(STDERR_FILENO, "verifier: signal %d, code %d at %p\n", signal, info->si_code, info->si_addr);
	_exit(EXIT_MISMATCH);
}

void probes_open(void)
{
	struct sigaction action = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

/* Reads or writes a word, which has to be refused with SIGSEGV and this code. */
void must_trap(volatile uint64_t *word, bool write, int expected)
{
	sigjmp_buf here;
	touched = (void *)word;
	if (sigsetjmp(here, 1) == 0) {
		back = &here;
		if (write)
			*word = 0xbad;
		else
			(void)*word;
		back = NULL;
		fail("access that must trap was let through", (void *)word, 0, *word);
	}
	back = NULL;
	if (code != expected)
		fail("si_code of an access that must trap", (void *)word, (uint64_t)expected, (uint64_t)code);
}

/* The kernel must not read there for the program, either. */
static void must_be_bad_address(const void *at)
{
	static int ends[2] = {-1, -1};
	if (ends[0] < 0 && pipe(ends))
		die("pipe");
	ssize_t wrote = write(ends[1], at, 1);
	if (wrote != -1 || errno != EFAULT)
		fail("write from what must not be read", at, EFAULT, wrote == 1 ? 0 : (uint64_t)errno);
}

/* The first and the last page of a range, and some between them. */
static void probe_range(struct arena *arena, uint8_t *base, size_t pages)
{
	for (size_t i = 0; i < SAMPLES; i++) {
		size_t page = i == 0 ? 0 : i == 1 ? pages - 1 : rng_below(&arena->rng, pages);
		volatile uint64_t *word = (volatile uint64_t *)(base + page * PAGE) + rng_below(&arena->rng, PAGE_WORDS);
		must_trap(word, rng_below(&arena->rng, 2), SEGV_MAPERR);
		must_be_bad_address((void *)word);
	}
}

/* Pages that are unmapped, with what they hold: in memory, stored, or never touched. */
static bool probe_freed(struct arena *arena)
{
	struct slot *slot = slot_pick(arena, LONGEST, is_any);
	if (!slot)
		return false;
	if (munmap(slot->base, slot->pages * PAGE))
		die("munmap");
	probe_range(arena, slot->base, slot->pages);
	slot_forget(arena, slot);
	return true;
}

/* The old place of pages that move. */
static bool probe_moved(struct arena *arena)
{
	struct slot *slot = slot_pick(arena, LONGEST, is_plain);
	if (!slot)
		return false;
	uint8_t *old = slot->base;
	void *base = slot_move(slot, 0);
	if (base == MAP_FAILED)
		return false;
	slot->base = base;
	probe_range(arena, old, slot->pages);
	for (size_t i = 0; i < slot->pages; i++)
		page_check(slot->base + i * PAGE, &slot_cells(arena, slot)[i], &arena->rng);
	return true;
}

/* Pages without rights, and pages that may be read only. */
static bool probe_protected(struct arena *arena)
{
	struct run run;
	if (op_protect_none(arena) != DONE || !run_pick(arena, &run, 1, is_guarded))
		return false;
	volatile uint64_t *word = (volatile uint64_t *)run_base(&run) + rng_below(&arena->rng, PAGE_WORDS);
	must_trap(word, true, SEGV_ACCERR);
	if (run_cells(arena, &run)->access == ACCESS_NONE) {
		must_trap(word, false, SEGV_ACCERR);
		must_be_bad_address((void *)word);
	}
	return true;
}

void probe(struct arena *arena)
{
	for (unsigned i = 0; i < ATTEMPTS; i++) {
		probed[0] += probe_freed(arena);
		probed[1] += probe_moved(arena);
		probed[2] += probe_protected(arena);
	}
}

void probes_report(void)
{
	result("chaos", "probe_freed", (double)probed[0]);
	result("chaos", "probe_moved", (double)probed[1]);
	result("chaos", "probe_protected", (double)probed[2]);
}
