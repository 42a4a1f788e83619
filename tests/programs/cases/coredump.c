/* Dies by abort with memory that was touched, and some that was mapped and given back before. */
#include "case.h"

int main(int count, char **words) {
    size_t bytes = (count > 1 ? strtoul(words[1], NULL, 0) : 16) * MIB;
    char *given_back = map_memory(bytes);
    write_contents(given_back, bytes, 1);
    munmap(given_back, bytes);
    char *kept = map_memory(bytes);
    for (size_t at = 0; at < bytes; at += 64)
        snprintf(kept + at, 64, "a line of a core dump, %08zu", at / 64);
    abort();
}
