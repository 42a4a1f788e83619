/* Threads that map, map over, move, protect, discard and unmap beside each other for some seconds, each of them ranges of
 * its own. After each step the owner checks the pages that it changed: each holds what it last put there, which names
 * the owner, the page and the generation. */
#include "case.h"
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { THREADS = 6, RANGES = 10, MOST = 320, FILE_PAGES = 64, RW = PROT_READ | PROT_WRITE };
enum kind { GONE, ZERO, OWN, FILED }; /* no mapping; zeroes; stamped by the owner; a page of the file */

struct page {
    enum kind kind;
    uint32_t generation; /* of the stamp */
    int filed;           /* which page of the file is behind it, if not -1 */
};

struct range {
    char *at; /* NULL: none */
    int pages;
    struct page page[MOST];
};

struct owner {
    int number;
    uint64_t random;
    uint32_t generation;
    long steps;
    struct range ranges[RANGES];
};

static int file;
static int moves_several; /* mremap of several mappings at once: since Linux 6.17 */
static atomic_int over;
static atomic_long lost, refused;

static unsigned below(struct owner *me, unsigned limit) {
    me->random ^= me->random << 13;
    me->random ^= me->random >> 7;
    me->random ^= me->random << 17;
    return (me->random >> 33) % limit;
}

static uint64_t stamp(const struct owner *me, const char *page, uint32_t generation) {
    return word_of((uint64_t)me->number << 40 | generation, (uintptr_t)page / PAGE * 4);
}

static const int places[] = {0, 1000, 4088};

static void refuse(const struct owner *me, const char *what) {
    if (atomic_fetch_add(&refused, 1) < 5)
        fprintf(stderr, "thread %d, step %ld: %s: %s\n", me->number, me->steps, what, strerror(errno));
}

static void lose(const struct owner *me, const char *what, const struct range *range, int page, uint64_t found) {
    if (atomic_fetch_add(&lost, 1) < 5)
        fprintf(stderr, "thread %d, step %ld, after %s: page %d of %d at %p, kind %d: found %#lx\n", me->number, me->steps,
                what, page, range->pages, (void *)range->at, (int)range->page[page].kind, found);
}

/* Stamps carry the address at which they were made: what moves is stamped anew, after it was checked. */
static void write_stamps(struct owner *me, struct range *range, int from, int to) {
    for (int i = from; i < to; i++) {
        if (range->page[i].kind == GONE)
            continue;
        range->page[i].kind = OWN;
        range->page[i].generation = ++me->generation;
        for (size_t k = 0; k < sizeof places / sizeof *places; k++)
            *(uint64_t *)(range->at + i * PAGE + places[k]) = stamp(me, range->at + i * PAGE, me->generation);
    }
}

/* The pages of `range`, which were stamped when they were at `stamped`. */
static void check(struct owner *me, const char *what, struct range *range, const char *stamped) {
    for (int i = 0; i < range->pages; i++) {
        const struct page *page = &range->page[i];
        for (size_t k = 0; page->kind != GONE && k < sizeof places / sizeof *places; k++) {
            uint64_t found = *(volatile uint64_t *)(range->at + i * PAGE + places[k]);
            uint64_t wanted = page->kind == ZERO    ? 0
                              : page->kind == FILED ? word_of(1, page->filed)
                                                    : stamp(me, stamped + i * PAGE, page->generation);
            if (found != wanted) {
                lose(me, what, range, i, found);
                break;
            }
        }
    }
}

static void set_kind(struct range *range, int from, int to, enum kind kind) {
    for (int i = from; i < to; i++)
        range->page[i] = (struct page){kind, 0, kind == FILED ? i - from : -1};
}

static void new_range(struct owner *me, struct range *range) {
    int pages = 1 + below(me, below(me, 3) == 0 ? MOST : 24), reserved = below(me, 2);
    int prot = reserved ? PROT_NONE : RW;
    char *at = mmap(NULL, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return refuse(me, "mmap");
    range->at = at;
    range->pages = pages;
    set_kind(range, 0, pages, ZERO);
    if (reserved && mprotect(at, pages * PAGE, RW) != 0)
        refuse(me, "mprotect of a reservation");
    check(me, "mmap", range, at);
    write_stamps(me, range, 0, pages);
}

/* A part of a range: [*from, *to). */
static void some(struct owner *me, const struct range *range, int *from, int *to) {
    *from = below(me, range->pages);
    *to = *from + 1 + below(me, range->pages - *from);
}

static void map_over(struct owner *me, struct range *range) {
    int from, to, how = below(me, 3);
    some(me, range, &from, &to);
    if (how != 0 && to > from + FILE_PAGES)
        to = from + FILE_PAGES;
    char *at = range->at + from * PAGE;
    size_t size = (to - from) * PAGE;
    void *got = how == 0   ? mmap(at, size, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
                : how == 1 ? mmap(at, size, RW, MAP_PRIVATE | MAP_FIXED, file, 0)
                           : mmap(at, size, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0);
    if (got != at)
        return refuse(me, "mmap over a range");
    set_kind(range, from, to, how == 0 ? ZERO : FILED);
    check(me, "mmap over it", range, range->at);
    if (how == 2) {
        if (mprotect(at, size, PROT_NONE) != 0 || mmap(at, size, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at)
            refuse(me, "memory over a file");
        set_kind(range, from, to, ZERO);
    }
    if (below(me, 2))
        write_stamps(me, range, from, to);
}

static void protect(struct owner *me, struct range *range) {
    int from, to;
    some(me, range, &from, &to);
    char *at = range->at + from * PAGE;
    int whole = 1;
    for (int i = from; i < to; i++)
        whole &= range->page[i].kind != GONE;
    if (!whole)
        return;
    if (mprotect(at, (to - from) * PAGE, PROT_READ) != 0)
        refuse(me, "mprotect to read");
    check(me, "mprotect", range, range->at);
    if (below(me, 4) == 0 && mprotect(at, (to - from) * PAGE, PROT_NONE) != 0)
        refuse(me, "mprotect to nothing");
    if (mprotect(at, (to - from) * PAGE, RW) != 0)
        refuse(me, "mprotect to write");
    write_stamps(me, range, from, to);
}

static void discard(struct owner *me, struct range *range) {
    int from, to, gap = 0;
    some(me, range, &from, &to);
    for (int i = from; i < to; i++)
        gap |= range->page[i].kind == GONE;
    int answer = madvise(range->at + from * PAGE, (to - from) * PAGE, MADV_DONTNEED);
    if (gap ? answer != -1 || errno != ENOMEM : answer != 0)
        refuse(me, "madvise");
    for (int i = from; i < to; i++)
        if (range->page[i].kind != GONE)
            range->page[i].kind = range->page[i].filed < 0 ? ZERO : FILED;
    check(me, "madvise", range, range->at);
}

static void punch(struct owner *me, struct range *range) {
    int from, to;
    some(me, range, &from, &to);
    if (munmap(range->at + from * PAGE, (to - from) * PAGE) != 0)
        refuse(me, "munmap of a part");
    set_kind(range, from, to, GONE);
    /* Others may be given what is in the gap; what is left has to be as it was. */
    check(me, "munmap of a part", range, range->at);
    /* So it is no range any longer that could move. */
    for (int i = 0; i < range->pages; i++)
        if (range->page[i].kind != GONE && munmap(range->at + i * PAGE, PAGE) != 0)
            refuse(me, "munmap of a page");
    range->at = NULL;
}

static int is_one_mapping(const struct range *range) {
    for (int i = 0; i < range->pages; i++)
        if (range->page[i].filed >= 0 || range->page[i].kind == GONE)
            return 0;
    return 1;
}

static void resize(struct owner *me, struct range *range) {
    if (!is_one_mapping(range))
        return;
    int pages = 1 + below(me, MOST);
    char *stamped = range->at, *at = mremap(range->at, range->pages * PAGE, pages * PAGE, MREMAP_MAYMOVE);
    if (at == MAP_FAILED) {
        /* Memory mapped over a part may be a mapping of its own for ever: then nothing grows. */
        if (errno != EFAULT)
            refuse(me, "mremap");
        return;
    }
    if (pages > range->pages)
        set_kind(range, range->pages, pages, ZERO);
    range->at = at;
    range->pages = pages;
    check(me, "mremap", range, stamped);
    write_stamps(me, range, 0, pages);
}

static void move(struct owner *me, struct range *range) {
    if (!is_one_mapping(range) && !moves_several)
        return;
    size_t size = range->pages * PAGE;
    char *to = mmap(NULL, size, below(me, 2) ? PROT_NONE : RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (to == MAP_FAILED)
        return refuse(me, "mmap of a target");
    int keep = below(me, 4) == 0, flags = MREMAP_MAYMOVE | MREMAP_FIXED | (keep ? MREMAP_DONTUNMAP : 0);
    char *from = range->at, *at = mremap(from, size, size, flags, to);
    if (at == MAP_FAILED) {
        if (errno != EFAULT || moves_several)
            refuse(me, "mremap to a place");
        munmap(to, size);
        return;
    }
    range->at = at;
    check(me, "mremap to a place", range, from);
    write_stamps(me, range, 0, range->pages);
    if (keep && munmap(from, size) != 0)
        refuse(me, "munmap of what was left behind");
}

static void drop(struct owner *me, struct range *range) {
    check(me, "all else", range, range->at);
    if (munmap(range->at, range->pages * PAGE) != 0)
        refuse(me, "munmap");
    range->at = NULL;
}

static void *live(void *argument) {
    struct owner *me = argument;
    static void (*const steps[])(struct owner *, struct range *) = {map_over, map_over, protect, discard, punch,
                                                                   resize,   move,     move,    drop};
    while (!over) {
        struct range *range = &me->ranges[below(me, RANGES)];
        if (range->at == NULL)
            new_range(me, range);
        else
            steps[below(me, sizeof steps / sizeof *steps)](me, range);
        me->steps++;
    }
    for (int i = 0; i < RANGES; i++)
        if (me->ranges[i].at != NULL)
            drop(me, &me->ranges[i]);
    return NULL;
}

static int can_move_several(void) {
    char *at = map_memory(8 * PAGE);
    mprotect(at + 2 * PAGE, PAGE, PROT_READ);
    char *to = mremap(at, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + 4 * PAGE);
    munmap(at, 8 * PAGE);
    return to != MAP_FAILED;
}

int main(int count, char **args) {
    int seconds = count > 1 ? atoi(args[1]) : 10;
    file = memfd_create("pages", 0);
    for (int i = 0; i < FILE_PAGES; i++) {
        uint64_t page[PAGE / 8];
        for (size_t k = 0; k < PAGE / 8; k++)
            page[k] = word_of(1, i);
        if (write(file, page, PAGE) != (ssize_t)PAGE)
            fail("write");
    }
    moves_several = can_move_several();
    static struct owner owners[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        owners[i].number = i;
        owners[i].random = 88172645463325252u + i * 7919u;
        if (pthread_create(&threads[i], NULL, live, &owners[i]) != 0)
            fail("pthread_create");
    }
    sleep(seconds);
    over = 1;
    long steps = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        steps += owners[i].steps;
    }
    fprintf(stderr, "%ld steps\n", steps);
    printf("steps: %s, lost: %ld, refused: %ld\n", steps > 1000 ? "many" : "few", lost, refused);
    return lost != 0 || refused != 0;
}
