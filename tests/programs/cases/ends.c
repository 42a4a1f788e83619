/* Fills memory and ends at once, in one of several ways: ends MIB HOW */
#include "case.h"

#include <signal.h>

static volatile char *volatile nowhere = NULL;

int main(int argc, char **argv) {
    if (argc != 3)
        return 98;
    size_t bytes = strtoul(argv[1], NULL, 10) * MIB;
    volatile char *at = map_memory(bytes);
    for (size_t i = 0; i < bytes; i += PAGE)
        at[i] = (char)i | 1;
    printf("filled\n");
    fflush(stdout);
    if (strcmp(argv[2], "_exit") == 0)
        _exit(3);
    if (strcmp(argv[2], "kill") == 0)
        raise(SIGKILL);
    if (strcmp(argv[2], "fault") == 0)
        *nowhere = 1;
    if (strcmp(argv[2], "abort") == 0)
        abort();
    return 4;
}
