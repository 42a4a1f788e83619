/* What calls on memory cost: the median of many, in microseconds, a line for each. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 4000
#define PAGE 4096UL
#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS)

static double times[ROUNDS];

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The call may use `round`. */
#define MEASURE(name, call)                                                 \
    do {                                                                    \
        for (unsigned long round = 0; round < ROUNDS; round++) {            \
            double begun = now();                                           \
            call;                                                           \
            times[round] = now() - begun;                                   \
        }                                                                   \
        qsort(times, ROUNDS, sizeof *times, by_size);                       \
        printf("%s %.3f\n", name, times[ROUNDS / 2]);                       \
    } while (0)

static void map_and_unmap(void) {
    void *at = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, PRIVATE, -1, 0);
    if (at == MAP_FAILED || munmap(at, 16 * PAGE)) exit(1);
}

/* As realloc does it with a block that malloc has mapped. */
static void grow_and_shrink(char *at) {
    if (mremap(at, 16 * PAGE, 32 * PAGE, MREMAP_MAYMOVE) != at || mremap(at, 32 * PAGE, 16 * PAGE, 0) != at) exit(1);
}

/* To and fro, with all pages touched. */
static void move(char **at, char **to) {
    char *from = *at;
    if (mremap(from, 16 * PAGE, 16 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, *to) != *to) exit(1);
    *at = *to;
    *to = from;
}

int main(void) {
    char *used = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, PRIVATE, -1, 0);
    char *reserved = mmap(NULL, ROUNDS * PAGE, PROT_NONE, PRIVATE, -1, 0);
    if (used == MAP_FAILED || reserved == MAP_FAILED) return 1;
    MEASURE("mmap+munmap-64K", map_and_unmap());
    MEASURE("mprotect-4K", if (mprotect(reserved + round * PAGE, PAGE, PROT_READ | PROT_WRITE)) return 1);
    MEASURE("sbrk-128K", if (sbrk(32 * PAGE) == (void *)-1) return 1);
    MEASURE("dontneed-4K", if (madvise(used, PAGE, MADV_DONTNEED)) return 1);
    MEASURE("touch+dontneed-4K", {
        used[0] = 1;
        if (madvise(used, PAGE, MADV_DONTNEED)) return 1;
    });
    char *block = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, PRIVATE, -1, 0);
    if (block == MAP_FAILED || munmap(block + 16 * PAGE, 48 * PAGE)) return 1;
    for (unsigned long i = 0; i < 16; i++) block[i * PAGE] = 1;
    MEASURE("mremap-in-place", grow_and_shrink(block));
    char *to = block + 32 * PAGE;
    MEASURE("mremap-move-64K", move(&block, &to));
    return 0;
}
