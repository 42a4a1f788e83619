/* The bookkeeping of mappings: slots, their cells, runs of pages inside them. Makes no system call. */
#include "chaos.h"

#include <string.h>

void arena_open(struct arena *arena, unsigned number, size_t quota, size_t slot_pages)
{
	arena->number = number;
	arena->rng.state = mix(options.seed * MAX_THREADS + number);
	arena->next_page = (uint32_t)number << 26;
	arena->quota = quota;
	arena->slot_pages = slot_pages;
	arena->cells = map_unmanaged(MAX_SLOTS * slot_pages * sizeof(struct cell));
	arena->child_cells = map_unmanaged(MAX_SLOTS * slot_pages * sizeof(struct cell));
}

struct cell *slot_cells(struct arena *arena, const struct slot *slot)
{
	return arena->cells + (size_t)(slot - arena->slots) * arena->slot_pages;
}

struct slot *slot_free(struct arena *arena)
{
	for (size_t i = 0; i < MAX_SLOTS; i++)
		if (!arena->slots[i].pages)
			return &arena->slots[i];
	return NULL;
}

/* A used slot, chosen at random, or NULL. */
struct slot *slot_any(struct arena *arena)
{
	size_t start = rng_below(&arena->rng, MAX_SLOTS);
	for (size_t i = 0; i < MAX_SLOTS; i++) {
		struct slot *slot = &arena->slots[(start + i) % MAX_SLOTS];
		if (slot->pages)
			return slot;
	}
	return NULL;
}

void slot_extend(struct arena *arena, struct slot *slot, size_t pages, enum page_access access)
{
	struct cell *cells = slot_cells(arena, slot) + slot->pages;
	for (size_t i = 0; i < pages; i++)
		cells[i] = (struct cell){.page = arena->next_page++, .access = access};
	slot->pages += pages;
	arena->mapped += pages;
}

void slot_take(struct arena *arena, struct slot *slot, uint8_t *base, size_t pages, enum page_access access)
{
	*slot = (struct slot){.base = base};
	slot_extend(arena, slot, pages, access);
}

/* The pages of the slot are unmapped, or belong to another slot now. */
void slot_forget(struct arena *arena, struct slot *slot)
{
	struct cell *cells = slot_cells(arena, slot);
	for (size_t i = 0; i < slot->pages; i++)
		arena->locked -= cells[i].locked;
	arena->mapped -= slot->pages;
	slot->pages = 0;
}

/* Makes two slots of one; the second begins `at` pages into the first. NULL if all slots are in use. */
static struct slot *slot_split(struct arena *arena, struct slot *slot, size_t at)
{
	struct slot *rest = slot_free(arena);
	if (!rest)
		return NULL;
	*rest = (struct slot){.base = slot->base + at * PAGE, .pages = slot->pages - at};
	memcpy(slot_cells(arena, rest), slot_cells(arena, slot) + at, rest->pages * sizeof(struct cell));
	slot->pages = at;
	return rest;
}

/* Makes the run a slot of its own. NULL if there are not slots enough. */
struct slot *slot_detach(struct arena *arena, const struct run *run)
{
	struct slot *slot = run->slot;
	if (run->first + run->count < slot->pages && !slot_split(arena, slot, run->first + run->count))
		return NULL;
	return run->first ? slot_split(arena, slot, run->first) : slot;
}

uint8_t *run_base(const struct run *run)
{
	return run->slot->base + run->first * PAGE;
}

struct cell *run_cells(struct arena *arena, const struct run *run)
{
	return slot_cells(arena, run->slot) + run->first;
}

/* Chooses at most `most` pages in a row that all pass the test. */
bool run_pick(struct arena *arena, struct run *run, size_t most, cell_test test)
{
	struct slot *slot = slot_any(arena);
	if (!slot)
		return false;
	*run = (struct run){.slot = slot};
	size_t wanted = rng_log_uniform(&arena->rng, most < slot->pages ? most : slot->pages);
	run->first = rng_below(&arena->rng, slot->pages - wanted + 1);
	const struct cell *cells = run_cells(arena, run);
	while (run->count < wanted && test(&cells[run->count]))
		run->count++;
	return run->count > 0;
}

/* Chooses such pages and makes them a slot of their own; NULL if it can't. */
struct slot *slot_pick(struct arena *arena, size_t most, cell_test test)
{
	struct run run;
	return run_pick(arena, &run, most, test) ? slot_detach(arena, &run) : NULL;
}

bool is_any(const struct cell *cell)
{
	(void)cell;
	return true;
}

bool is_readable(const struct cell *cell)
{
	return cell->access != ACCESS_NONE;
}

bool is_writable(const struct cell *cell)
{
	return cell->access == ACCESS_WRITE;
}

bool is_unlocked(const struct cell *cell)
{
	return !cell->locked;
}

bool is_guarded(const struct cell *cell)
{
	return cell->access != ACCESS_WRITE;
}

/* Neither protected nor locked. */
bool is_plain(const struct cell *cell)
{
	return is_writable(cell) && is_unlocked(cell);
}
