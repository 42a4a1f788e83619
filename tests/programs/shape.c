/* Memory that is worth shaping, and a check of each of its pages.

   shape sparse BYTES           one page of every 64 KiB holds something, the others are never touched
   shape dense BYTES SECONDS    all pages are written in shuffled order and lie still for that long; then some are written
                                again, and twice as many others are written, so that they leave memory

   Exit status 0, or 1 with a line that says which page differed. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { PAGE = 4096, WORDS = PAGE / sizeof(uint64_t), RUN = 16 };

static uint64_t state = 88172645463325252u;

static uint64_t next(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

/* Pages of an area, the first of which lies on a border of 64 KiB. */
static uint64_t *map(size_t pages) {
    size_t run = (size_t)RUN * PAGE;
    char *at = mmap(NULL, pages * PAGE + run, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) fail("mmap");
    return (uint64_t *)(((uintptr_t)at + run - 1) / run * run);
}

/* What a page holds differs from that of any other page and any other mark, and is not zeroes. It can be compressed. */
static uint64_t word(size_t page, size_t at, uint64_t mark) {
    return (page + 1) * 0x9E3779B97F4A7C15u + (mark << 8) + at / 64;
}

static void write_page(uint64_t *area, size_t page, uint64_t mark) {
    for (size_t at = 0; at < WORDS; at++) area[page * WORDS + at] = word(page, at, mark);
}

/* `mark` 0: nobody wrote to the page. */
static void look(const uint64_t *area, size_t page, uint64_t mark, const char *when) {
    for (size_t at = 0; at < WORDS; at++) {
        uint64_t found = area[page * WORDS + at], due = mark ? word(page, at, mark) : 0;
        if (found == due) continue;
        fprintf(stderr, "MISMATCH %s: word %zu of page %zu is %llx, not %llx\n", when, at, page,
                (unsigned long long)found, (unsigned long long)due);
        exit(1);
    }
}

/* Which page of a run holds something. */
static size_t used(size_t run) { return run * RUN + run * 7 % RUN; }

static void sparse(size_t pages) {
    uint64_t *area = map(pages);
    size_t runs = pages / RUN;
    for (size_t run = 0; run < runs; run++) write_page(area, used(run), 1);
    for (int round = 1; round <= 2; round++)
        for (size_t run = 0; run < runs; run++) {
            look(area, used(run), (uint64_t)round, "where something was written");
            write_page(area, used(run), (uint64_t)round + 1);
        }
    for (size_t page = 0; page < pages; page++)
        look(area, page, page == used(page / RUN) ? 3 : 0, "in all pages");
}

static size_t *shuffled(size_t count) {
    size_t *order = malloc(count * sizeof *order);
    if (!order) fail("malloc");
    for (size_t i = 0; i < count; i++) {
        size_t j = next() % (i + 1);
        order[i] = order[j], order[j] = i;
    }
    return order;
}

static void lie_still(double seconds) {
    struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&time, NULL);
}

static void dense(size_t pages, double seconds) {
    uint64_t *area = map(pages), *others = map(2 * pages);
    size_t *order = shuffled(pages);
    for (size_t i = 0; i < pages; i++) write_page(area, order[i], 1);
    lie_still(seconds);
    for (size_t page = 0; page < pages; page++) look(area, page, 1, "after it lay still");
    for (size_t page = 0; page < pages; page += 3) write_page(area, page, 2);
    for (size_t page = 0; page < 2 * pages; page++) write_page(others, page, 3);
    for (size_t i = 0; i < pages; i++) look(area, order[i], order[i] % 3 ? 1 : 2, "after it left memory");
    for (size_t page = 0; page < 2 * pages; page++) look(others, page, 3, "beside it");
}

int main(int argc, char **argv) {
    size_t pages = argc > 2 ? (size_t)atol(argv[2]) / PAGE / RUN * RUN : 0;
    if (argc == 3 && !strcmp(argv[1], "sparse")) sparse(pages);
    else if (argc == 4 && !strcmp(argv[1], "dense")) dense(pages, atof(argv[3]));
    else return fprintf(stderr, "usage: shape sparse BYTES | shape dense BYTES SECONDS\n"), 2;
    printf("shape: %zu pages hold what was written to them\n", pages);
    return 0;
}
