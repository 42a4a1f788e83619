/* What a window of 16 pages can look like. */
#include "differential.h"

#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
#define READ_WRITE (PROT_READ | PROT_WRITE)

static void check(long result, const char *what) {
    if (result < 0) {
        errno = -result;
        fail(what);
    }
}

static void map(struct zone *z, long first, long pages, int prot, int flags, int file, long offset) {
    check(CALL(z->way, SYS_mmap, (long)(z->base + first * PAGE), pages * PAGE, prot, flags, file, offset), "mmap");
}

static void protect(struct zone *z, long first, long pages, int prot) {
    check(CALL(z->way, SYS_mprotect, (long)(z->base + first * PAGE), pages * PAGE, prot), "mprotect");
}

static void advise(struct zone *z, long first, long pages, int advice) {
    check(CALL(z->way, SYS_madvise, (long)(z->base + first * PAGE), pages * PAGE, advice), "madvise");
}

static void unmap(struct zone *z, long first, long pages) {
    check(CALL(z->way, SYS_munmap, (long)(z->base + first * PAGE), pages * PAGE), "munmap");
}

static void fill(struct zone *z, long first, long pages) {
    for (long page = first; page < first + pages; page++)
        write_contents(z->base + page * PAGE, PAGE, OWN_SEED + page);
}

static void plain(struct zone *z) {
    map(z, 0, 16, READ_WRITE, ANONYMOUS, -1, 0);
    fill(z, 0, 16);
}

static void untouched(struct zone *z) {
    map(z, 0, 16, READ_WRITE, ANONYMOUS, -1, 0);
}

static void readonly(struct zone *z) {
    plain(z);
    protect(z, 0, 16, PROT_READ);
}

static void none(struct zone *z) {
    plain(z);
    protect(z, 0, 16, PROT_NONE);
}

static void reserved(struct zone *z) {
    map(z, 0, 16, PROT_NONE, ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static void executable(struct zone *z) {
    map(z, 0, 16, READ_WRITE | PROT_EXEC, ANONYMOUS, -1, 0);
    fill(z, 0, 16);
}

static void gap_first(struct zone *z) {
    plain(z);
    unmap(z, 0, 1);
}

static void gap_middle(struct zone *z) {
    plain(z);
    unmap(z, 7, 1);
}

static void gap_last(struct zone *z) {
    plain(z);
    unmap(z, 15, 1);
}

static void two_gaps(struct zone *z) {
    plain(z);
    unmap(z, 3, 2);
    unmap(z, 10, 1);
}

static void two_halves(struct zone *z) {
    plain(z);
    protect(z, 8, 8, PROT_READ);
}

static void striped(struct zone *z) {
    plain(z);
    for (long page = 0; page < 16; page += 2)
        protect(z, page, 1, PROT_READ);
}

static void hole_of_rights(struct zone *z) {
    plain(z);
    protect(z, 6, 3, PROT_NONE);
}

static void discarded(struct zone *z) {
    plain(z);
    advise(z, 7, 2, MADV_DONTNEED);
}

static void locked(struct zone *z) {
    plain(z);
    check(CALL(z->way, SYS_mlock, (long)z->base, 16 * PAGE), "mlock");
}

static void locked_part(struct zone *z) {
    plain(z);
    check(CALL(z->way, SYS_mlock, (long)(z->base + 4 * PAGE), 8 * PAGE), "mlock");
}

static void dont_fork(struct zone *z) {
    plain(z);
    advise(z, 4, 8, MADV_DONTFORK);
}

static void wipe_on_fork(struct zone *z) {
    plain(z);
    advise(z, 4, 8, MADV_WIPEONFORK);
}

static void hinted(struct zone *z) {
    plain(z);
    advise(z, 4, 8, MADV_SEQUENTIAL);
}

static void joined(struct zone *z) {
    map(z, 8, 8, READ_WRITE, ANONYMOUS, -1, 0);
    fill(z, 8, 8);
    map(z, 0, 8, READ_WRITE, ANONYMOUS, -1, 0);
    fill(z, 0, 8);
}

static void healed(struct zone *z) {
    plain(z);
    protect(z, 7, 2, PROT_READ);
    protect(z, 7, 2, READ_WRITE);
}

static void refilled(struct zone *z) {
    plain(z);
    unmap(z, 5, 4);
    map(z, 5, 4, READ_WRITE, ANONYMOUS, -1, 0);
    fill(z, 5, 2);
}

static void moved_in(struct zone *z) {
    long flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    map(z, -20, 16, READ_WRITE, ANONYMOUS, -1, 0);
    check(CALL(z->way, SYS_mremap, (long)(z->base - 20 * PAGE), 16 * PAGE, 16 * PAGE, flags, (long)z->base), "mremap");
    fill(z, 0, 16);
}

static void stack_part(struct zone *z) {
    plain(z);
    map(z, 4, 5, READ_WRITE, ANONYMOUS | MAP_STACK, -1, 0);
    fill(z, 4, 5);
}

static void shared_part(struct zone *z) {
    plain(z);
    map(z, 4, 5, READ_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    fill(z, 4, 5);
}

static void make_file(struct zone *z, long pages) {
    static char contents[PAGE];
    if ((z->file = memfd_create("differential", 0)) < 0)
        fail("memfd_create");
    for (long page = 0; page < pages; page++) {
        write_contents(contents, PAGE, FILE_SEED + page);
        if (write(z->file, contents, PAGE) != (ssize_t)PAGE)
            fail("write");
    }
}

static void private_file(struct zone *z) {
    plain(z);
    make_file(z, 16);
    map(z, 4, 5, READ_WRITE, MAP_PRIVATE | MAP_FIXED, z->file, 4 * PAGE);
    fill(z, 6, 1);
}

static void shared_file(struct zone *z) {
    plain(z);
    make_file(z, 16);
    map(z, 4, 5, PROT_READ, MAP_SHARED | MAP_FIXED, z->file, 4 * PAGE);
}

static void file_last(struct zone *z) {
    plain(z);
    make_file(z, 16);
    map(z, 12, 4, READ_WRITE, MAP_SHARED | MAP_FIXED, z->file, 12 * PAGE);
}

static void short_file(struct zone *z) {
    plain(z);
    make_file(z, 2);
    map(z, 4, 4, READ_WRITE, MAP_SHARED | MAP_FIXED, z->file, 0);
}

static void empty(struct zone *z) {
    plain(z);
    unmap(z, 0, 16);
}

const struct layout layouts[] = {
    {"plain", plain, true},
    {"untouched", untouched, false},
    {"readonly", readonly, true},
    {"none", none, true},
    {"reserved", reserved, false},
    {"executable", executable, true},
    {"gap-first", gap_first, true},
    {"gap-middle", gap_middle, true},
    {"gap-last", gap_last, true},
    {"two-gaps", two_gaps, true},
    {"two-halves", two_halves, true},
    {"striped", striped, true},
    {"hole-of-rights", hole_of_rights, true},
    {"discarded", discarded, true},
    {"locked", locked, false},
    {"locked-part", locked_part, true},
    {"dont-fork", dont_fork, true},
    {"wipe-on-fork", wipe_on_fork, true},
    {"hinted", hinted, true},
    {"joined", joined, true},
    {"healed", healed, true},
    {"refilled", refilled, true},
    {"moved-in", moved_in, true},
    {"stack-part", stack_part, true},
    {"shared-part", shared_part, true},
    {"private-file", private_file, true},
    {"shared-file", shared_file, true},
    {"file-last", file_last, true},
    {"short-file", short_file, false},
    {"empty", empty, false},
};
const size_t layout_count = sizeof layouts / sizeof layouts[0];

void make_zone(struct zone *zone, const struct layout *layout) {
    zone->file = -1;
    memset(zone->vector, 0xee, sizeof zone->vector);
    layout->make(zone);
}

void give_file(struct zone *zone) {
    if (zone->file < 0)
        make_file(zone, 16);
}

void drop_zone(struct zone *zone) {
    unmap(zone, -BEFORE_PAGES, ZONE_PAGES);
    if (zone->file >= 0)
        close(zone->file);
}
