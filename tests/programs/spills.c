// Writes pages that are stored in each form there is (as they are, by lz4, by zstd, as zeroes), more than its budget, changes
// some of them again and again, and looks at all of them in each round. Status 1: a page is not what was written.
//
//     spills MIB ROUNDS

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, WORDS = PAGE / 8, FORMS = 4 };

static uint64_t next(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 11 ^ *state << 7;
}

// The contents of a page in one of its versions.
static void make(uint64_t *words, size_t page, unsigned version) {
    static const char digits[] = "0123456789abcdef";
    uint64_t state = (page * 2654435761u + version) * 0x9e3779b97f4a7c15u + 1;
    switch (page % FORMS) {
    case 0: // Noise.
        for (int i = 0; i < WORDS; i++)
            words[i] = next(&state);
        break;
    case 1: // Digits: nothing repeats, but each has only four bits.
        for (int i = 0; i < PAGE; i++)
            ((char *)words)[i] = digits[next(&state) >> 33 & 15];
        break;
    case 2: // Runs.
        for (int i = 0; i < WORDS; i++)
            words[i] = i % 16 ? words[i - 1] : next(&state);
        break;
    default: // A number alone, or nothing.
        memset(words, 0, PAGE);
        words[page % WORDS] = page % 8 < FORMS ? 0 : state;
    }
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    size_t pages = strtoul(argv[1], NULL, 10) * (1 << 20) / PAGE;
    unsigned rounds = strtoul(argv[2], NULL, 10);
    unsigned *versions = calloc(pages, sizeof *versions);
    uint64_t *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!versions || memory == MAP_FAILED)
        return 2;
    for (size_t page = 0; page < pages; page++)
        make(memory + page * WORDS, page, 0);
    for (unsigned round = 1; round <= rounds; round++) {
        for (size_t page = 0; page < pages; page++) {
            uint64_t expected[WORDS], *found = memory + page * WORDS;
            make(expected, page, versions[page]);
            if (memcmp(expected, found, PAGE)) {
                fprintf(stderr, "MISMATCH: page %zu in round %u\n", page, round);
                return 1;
            }
            if ((page / FORMS + round) % 3 == 0)
                make(found, page, versions[page] = round);
        }
    }
    printf("%zu pages are what was written\n", pages);
    return 0;
}
