/* Calls that change mappings, each with what it does to the model. */
#define _GNU_SOURCE
#include "chaos.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)
#define READ_WRITE (PROT_READ | PROT_WRITE)
#define MOST SIZE_MAX

/* How many pages the arena may still map, in one slot. */
static size_t room(const struct arena *arena)
{
	size_t left = arena->mapped < arena->quota ? arena->quota - arena->mapped : 0;
	return left < arena->slot_pages ? left : arena->slot_pages;
}

/* What a length of whole pages may lack and still be of as many. */
static size_t slack(struct arena *arena)
{
	return rng_below(&arena->rng, 2) ? rng_below(&arena->rng, PAGE) : 0;
}

/* mmap of fresh pages, in one of the ways programs do it. */
enum outcome op_map(struct arena *arena)
{
	static const struct {
		int protection, flags;
		enum page_access access;
	} ways[] = {
		{READ_WRITE, ANONYMOUS, ACCESS_WRITE},
		{READ_WRITE, ANONYMOUS, ACCESS_WRITE},
		{READ_WRITE, ANONYMOUS | MAP_NORESERVE, ACCESS_WRITE},
		{READ_WRITE, ANONYMOUS | MAP_POPULATE, ACCESS_WRITE},
		{PROT_READ, ANONYMOUS, ACCESS_READ},
		{PROT_NONE, ANONYMOUS, ACCESS_NONE},
	};
	struct slot *slot = slot_free(arena);
	if (!slot || !room(arena))
		return SKIPPED;
	size_t pages = rng_log_uniform(&arena->rng, room(arena));
	size_t way = rng_below(&arena->rng, sizeof(ways) / sizeof(*ways));
	/* A free slot remembers where it was: a hint that may be taken or not. */
	void *hint = rng_below(&arena->rng, 2) ? slot->base : NULL;
	void *base = mmap(hint, pages * PAGE, ways[way].protection, ways[way].flags, -1, 0);
	if (base == MAP_FAILED)
		return REFUSED;
	slot_take(arena, slot, base, pages, ways[way].access);
	return DONE;
}

/* MAP_FIXED over pages that are mapped: they become fresh ones. */
enum outcome op_map_over(struct arena *arena)
{
	struct slot *slot = slot_pick(arena, MOST, is_unlocked);
	if (!slot)
		return SKIPPED;
	size_t pages = slot->pages;
	void *base = mmap(slot->base, pages * PAGE, READ_WRITE, ANONYMOUS | MAP_FIXED, -1, 0);
	if (base != slot->base)
		die("mmap over mapped pages");
	slot_forget(arena, slot);
	slot_take(arena, slot, base, pages, ACCESS_WRITE);
	return DONE;
}

/* The longest file mapping, in pages: it is memory of the kernel's. */
#define LONGEST_FILE 64

/* The same with a private mapping of a file, which nobody manages. The file is empty, so that what is there is like fresh
 * pages: written pages are the program's own, and dropped ones zeroes again. */
enum outcome op_map_file_over(struct arena *arena)
{
	static int file = -1;
	if (file < 0) {
		int made = memfd_create("verifier", MFD_CLOEXEC), none = -1;
		if (made < 0 || ftruncate(made, 1L << 40))
			die("memfd_create");
		if (!__atomic_compare_exchange_n(&file, &none, made, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			close(made);
	}
	struct slot *slot = slot_pick(arena, LONGEST_FILE, is_unlocked);
	if (!slot)
		return SKIPPED;
	size_t pages = slot->pages;
	void *base = mmap(slot->base, pages * PAGE - slack(arena), READ_WRITE, MAP_PRIVATE | MAP_FIXED, file, 0);
	if (base != slot->base)
		die("mmap of a file over mapped pages");
	slot_forget(arena, slot);
	slot_take(arena, slot, base, pages, ACCESS_WRITE);
	return DONE;
}

/* mincore and msync: all of the run is mapped, so both know all of it. */
enum outcome op_look(struct arena *arena)
{
	struct run run;
	unsigned char vector[LONGEST_FILE];
	if (!run_pick(arena, &run, LONGEST_FILE, is_any))
		return SKIPPED;
	memset(vector, 0xee, sizeof(vector));
	if (mincore(run_base(&run), run.count * PAGE - slack(arena), vector))
		die("mincore");
	for (size_t i = 0; i < LONGEST_FILE; i++)
		if ((vector[i] == 0xee) != (i >= run.count))
			fail("byte of mincore's vector", &vector[i], i < run.count, vector[i]);
	if (msync(run_base(&run), run.count * PAGE - slack(arena), rng_below(&arena->rng, 2) ? MS_SYNC : MS_ASYNC))
		die("msync");
	return DONE;
}

/* munmap of a whole slot or of a part, which leaves a hole. */
enum outcome op_unmap(struct arena *arena)
{
	struct run run;
	if (!run_pick(arena, &run, MOST, is_any))
		return SKIPPED;
	bool part = slot_free(arena) && rng_below(&arena->rng, 3) == 0;
	struct slot *slot = part ? slot_detach(arena, &run) : run.slot;
	if (!slot)
		return SKIPPED;
	if (munmap(slot->base, slot->pages * PAGE - slack(arena)))
		die("munmap");
	slot_forget(arena, slot);
	return DONE;
}

/* Picks a slot whose pages are all plain. */
static struct slot *plain_slot(struct arena *arena)
{
	struct slot *slot = slot_any(arena);
	for (size_t i = 0; slot && i < slot->pages; i++)
		if (!is_plain(&slot_cells(arena, slot)[i]))
			return NULL;
	return slot;
}

enum outcome op_grow(struct arena *arena)
{
	struct slot *slot = plain_slot(arena);
	if (!slot || slot->pages >= arena->slot_pages || !room(arena))
		return SKIPPED;
	size_t space = arena->slot_pages - slot->pages;
	size_t more = rng_log_uniform(&arena->rng, space < room(arena) ? space : room(arena));
	size_t pages = slot->pages;
	void *base = mremap(slot->base, pages * PAGE - slack(arena), (pages + more) * PAGE - slack(arena),
			    MREMAP_MAYMOVE);
	if (base == MAP_FAILED)
		return REFUSED;
	slot->base = base;
	slot_extend(arena, slot, more, ACCESS_WRITE);
	return DONE;
}

enum outcome op_shrink(struct arena *arena)
{
	struct slot *slot = slot_any(arena);
	if (!slot || slot->pages < 2)
		return SKIPPED;
	size_t keep = 1 + rng_below(&arena->rng, slot->pages - 1);
	size_t old = slot->pages * PAGE - slack(arena);
	if (mremap(slot->base, old, keep * PAGE - slack(arena), 0) != slot->base)
		return REFUSED;
	struct run tail = {slot, keep, slot->pages - keep};
	struct slot *gone = slot_detach(arena, &tail);
	if (!gone) {
		/* All slots are in use: count the tail away by hand. */
		struct cell *cells = run_cells(arena, &tail);
		for (size_t i = 0; i < tail.count; i++)
			arena->locked -= cells[i].locked;
		arena->mapped -= tail.count;
		slot->pages = keep;
		return DONE;
	}
	slot_forget(arena, gone);
	return DONE;
}

/*
 * Moves pages to a place reserved for them. When the kernel refuses, it may have unmapped that place first, and
 * another thread may be there already: so the place is left alone then (it holds no memory).
 */
void *slot_move(const struct slot *slot, int flags)
{
	size_t bytes = slot->pages * PAGE;
	void *place = mmap(NULL, bytes, PROT_NONE, ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (place == MAP_FAILED)
		return MAP_FAILED;
	return mremap(slot->base, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | flags, place);
}

enum outcome op_move(struct arena *arena)
{
	struct slot *slot = slot_pick(arena, MOST, is_plain);
	if (!slot)
		return SKIPPED;
	void *base = slot_move(slot, 0);
	if (base == MAP_FAILED)
		return REFUSED;
	slot->base = base;
	return DONE;
}

/* MREMAP_DONTUNMAP: the pages move, and the old place stays mapped and empty. */
enum outcome op_move_keeping(struct arena *arena)
{
	struct slot *slot = slot_pick(arena, room(arena), is_plain);
	struct slot *emptied = slot_free(arena);
	if (!slot || !emptied || slot->pages > room(arena))
		return SKIPPED;
	uint8_t *old = slot->base;
	void *base = slot_move(slot, MREMAP_DONTUNMAP);
	if (base == MAP_FAILED)
		return REFUSED;
	slot->base = base;
	slot_take(arena, emptied, old, slot->pages, ACCESS_WRITE);
	return DONE;
}

static enum outcome advise(struct arena *arena, int advice, enum page_state from_data)
{
	struct run run;
	if (!run_pick(arena, &run, MOST, is_unlocked))
		return SKIPPED;
	int status = madvise(run_base(&run), run.count * PAGE - slack(arena), advice);
	struct cell *cells = run_cells(arena, &run);
	for (size_t i = 0; i < run.count; i++)
		if (cells[i].state != PAGE_ZERO)
			cells[i].state = status ? PAGE_EITHER : from_data;
	return status ? REFUSED : DONE;
}

enum outcome op_discard(struct arena *arena)
{
	return advise(arena, MADV_DONTNEED, PAGE_ZERO);
}

enum outcome op_free(struct arena *arena)
{
	return advise(arena, MADV_FREE, PAGE_EITHER);
}

/* Advice that may change the speed and must not change a byte. */
enum outcome op_hint(struct arena *arena)
{
	static const int hints[] = {
		MADV_COLD, MADV_COLD, MADV_PAGEOUT, MADV_PAGEOUT, MADV_WILLNEED, MADV_HUGEPAGE, MADV_NOHUGEPAGE,
		MADV_SEQUENTIAL, MADV_RANDOM, MADV_NORMAL, MADV_COLLAPSE, MADV_POPULATE_READ, MADV_POPULATE_WRITE,
	};
	struct run run;
	if (!run_pick(arena, &run, MOST, is_any))
		return SKIPPED;
	int hint = hints[rng_below(&arena->rng, sizeof(hints) / sizeof(*hints))];
	return madvise(run_base(&run), run.count * PAGE, hint) ? REFUSED : DONE;
}

static enum outcome protect(struct arena *arena, const struct run *run, enum page_access access)
{
	static const int protections[] = {PROT_NONE, PROT_READ, READ_WRITE};
	if (mprotect(run_base(run), run->count * PAGE, protections[access])) {
		/* The kernel may have changed a part before it ran out of mappings. */
		if (errno == ENOMEM && mprotect(run_base(run), run->count * PAGE, READ_WRITE) == 0)
			access = ACCESS_WRITE;
		else
			die("mprotect");
	}
	struct cell *cells = run_cells(arena, run);
	for (size_t i = 0; i < run->count; i++)
		cells[i].access = access;
	return DONE;
}

static enum outcome protect_some(struct arena *arena, enum page_access access)
{
	struct run run;
	return run_pick(arena, &run, MOST, is_unlocked) ? protect(arena, &run, access) : SKIPPED;
}

enum outcome op_protect_none(struct arena *arena)
{
	return protect_some(arena, ACCESS_NONE);
}

enum outcome op_protect_read(struct arena *arena)
{
	return protect_some(arena, ACCESS_READ);
}

/* Gives a whole slot back to reading and writing, so that protection does not take over. */
enum outcome op_unprotect(struct arena *arena)
{
	struct slot *slot = slot_any(arena);
	if (!slot)
		return SKIPPED;
	struct run run = {slot, 0, slot->pages};
	return protect(arena, &run, ACCESS_WRITE);
}

static void mark_locked(struct arena *arena, const struct run *run, bool locked)
{
	struct cell *cells = run_cells(arena, run);
	for (size_t i = 0; i < run->count; i++) {
		arena->locked = arena->locked - cells[i].locked + locked;
		cells[i].locked = locked;
	}
}

enum outcome op_lock(struct arena *arena)
{
	struct run run;
	size_t most = MAX_LOCKED - arena->locked;
	if (!most || !run_pick(arena, &run, most, is_plain))
		return SKIPPED;
	if (mlock(run_base(&run), run.count * PAGE)) {
		/* A part may be locked. */
		munlock(run_base(&run), run.count * PAGE);
		return REFUSED;
	}
	mark_locked(arena, &run, true);
	return DONE;
}

/* munlock is often called on a whole mapping, locked or not. */
enum outcome op_unlock(struct arena *arena)
{
	struct slot *slot = slot_any(arena);
	if (!slot || !arena->locked)
		return SKIPPED;
	struct run run = {slot, 0, slot->pages};
	if (munlock(slot->base, slot->pages * PAGE))
		return REFUSED;
	mark_locked(arena, &run, false);
	return DONE;
}
