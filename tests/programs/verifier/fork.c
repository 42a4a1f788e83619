/*
 * A child that checks what it inherited. It works on copies of the slots and cells, because the parent goes on
 * changing the originals, which are shared; the pages themselves are private, and must stay as they were.
 */
#define _GNU_SOURCE
#include "chaos.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_SECONDS 60
/* Pages a child compares and pages it rewrites: few, for a child may be kept wholly resident. */
#define CHILD_CHECKS 256
#define CHILD_WRITES 64

static struct cell *child_cell(struct arena *arena, size_t slot, size_t page)
{
	return arena->child_cells + slot * arena->slot_pages + page;
}

static void take_snapshot(struct arena *arena)
{
	memcpy(arena->child_slots, arena->slots, sizeof(arena->slots));
	for (size_t i = 0; i < MAX_SLOTS; i++)
		memcpy(child_cell(arena, i, 0), slot_cells(arena, &arena->slots[i]),
		       arena->slots[i].pages * sizeof(struct cell));
}

/* Checks one page of the snapshot, or writes it and checks that. */
static void visit(struct arena *arena, struct rng *rng, bool write)
{
	size_t slot = rng_below(rng, MAX_SLOTS);
	if (!arena->child_slots[slot].pages)
		return;
	size_t page = rng_below(rng, arena->child_slots[slot].pages);
	struct cell *cell = child_cell(arena, slot, page);
	uint8_t *address = arena->child_slots[slot].base + page * PAGE;
	if (write && is_writable(cell))
		page_write(address, cell);
	if (is_readable(cell))
		page_check_whole(address, cell);
}

static void child_main(struct arena *arena, struct rng rng)
{
	alarm(CHILD_SECONDS);
	for (size_t i = 0; i < CHILD_CHECKS; i++)
		visit(arena, &rng, false);
	for (size_t i = 0; i < CHILD_WRITES; i++)
		visit(arena, &rng, true);
	for (size_t i = 0; i < CHILD_CHECKS; i++)
		visit(arena, &rng, false);
	_exit(EXIT_MATCH);
}

enum outcome op_fork(struct arena *arena)
{
	if (arena->child)
		return SKIPPED;
	take_snapshot(arena);
	struct rng rng = {rng_next(&arena->rng)};
	pid_t child = fork();
	if (child == 0)
		child_main(arena, rng);
	if (child < 0)
		return REFUSED;
	arena->child = child;
	return DONE;
}

static void reap(struct arena *arena, int flags)
{
	int status;
	pid_t got;
	do
		got = waitpid(arena->child, &status, flags);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		die("waitpid");
	if (got == 0)
		return;
	arena->child = 0;
	if (status) {
		dprintf(STDERR_FILENO, "verifier: a child ended with wait status 0x%x%s\n", (unsigned)status,
			WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? " (it hung)" : "");
		_exit(EXIT_MISMATCH);
	}
}

/* Looks whether the child has ended, without waiting for it. */
enum outcome op_reap(struct arena *arena)
{
	if (!arena->child)
		return SKIPPED;
	reap(arena, WNOHANG);
	return DONE;
}

void child_wait(struct arena *arena)
{
	if (arena->child)
		reap(arena, 0);
}
