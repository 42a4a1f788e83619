/* What the programs of tests/cases share: contents that can be told from any other, and pressure that evicts them. */
#ifndef CASE_H
#define CASE_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096UL
#define KIB 1024UL
#define MIB (1024UL * 1024)

/* Word `index` of the contents named `seed`. Compresses about as well as text: three of four words are small. */
static inline uint64_t word_of(uint64_t seed, uint64_t index) {
    uint64_t mixed = (seed + 1) * 0x9e3779b97f4a7c15u + index * 0xd1b54a32d192ed03u;
    mixed ^= mixed >> 29;
    mixed *= 0xbf58476d1ce4e5b9u;
    mixed ^= mixed >> 32;
    return index % 4 == 0 ? mixed | 1 : (mixed & 0xff) + 1;
}

static inline void write_contents(void *at, size_t bytes, uint64_t seed) {
    uint64_t *words = at;
    for (size_t i = 0; i < bytes / 8; i++)
        words[i] = word_of(seed, i);
}

/* How many words are not those of `seed`. */
static inline size_t wrong_words(const void *at, size_t bytes, uint64_t seed) {
    const uint64_t *words = at;
    size_t wrong = 0;
    for (size_t i = 0; i < bytes / 8; i++)
        wrong += words[i] != word_of(seed, i);
    return wrong;
}

static inline void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(99);
}

static inline void *map_memory(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        fail("mmap");
    return at;
}

/* Memory of so many MiB, as an argument says, with the contents of seed 1. */
static inline char *map_contents(const char *mib, size_t *bytes) {
    *bytes = strtoul(mib, NULL, 10) * MIB;
    char *contents = map_memory(*bytes);
    write_contents(contents, *bytes, 1);
    return contents;
}

/* Writes and reads `bytes` of other memory, twice: under a budget smaller than that all else is evicted. */
static inline void press(size_t bytes) {
    char *at = map_memory(bytes);
    for (uint64_t round = 0; round < 2; round++) {
        write_contents(at, bytes, 7000 + round);
        size_t wrong = wrong_words(at, bytes, 7000 + round);
        if (wrong != 0)
            printf("pressure: %zu words are wrong\n", wrong);
    }
    munmap(at, bytes);
}

#endif
