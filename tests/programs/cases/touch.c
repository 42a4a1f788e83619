/* Touches memory as fast as it can, and reads it back: touch MIB [huge|locked|reserved], or in COUNT programs at once: touch MIB COUNT. */
#include "case.h"

#include <sys/wait.h>

static int in_programs(char **argv, int count) {
    int wrong = 0, status;
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        if (child == 0) {
            execl(argv[0], argv[0], argv[1], (char *)NULL);
            _exit(98);
        }
    }
    while (wait(&status) > 0)
        wrong += status != 0;
    printf("%d of %d went wrong\n", wrong, count);
    return wrong != 0;
}

int main(int argc, char **argv) {
    size_t bytes = strtoul(argv[1], NULL, 10) * MIB, wrong = 0;
    const char *how = argc > 2 ? argv[2] : "";
    if (atoi(how) > 0)
        return in_programs(argv, atoi(how));
    if (strcmp(how, "locked") == 0 && mlockall(MCL_FUTURE) != 0)
        fail("mlockall");
    char *at;
    if (strcmp(how, "reserved") != 0) {
        at = map_memory(bytes);
    } else {
        /* As allocators do that reserve addresses, and make them memory bit by bit. */
        at = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED)
            fail("mmap");
        for (size_t i = 0; i < bytes; i += MIB)
            if (mprotect(at + i, MIB, PROT_READ | PROT_WRITE) != 0)
                fail("mprotect");
    }
    if (strcmp(how, "huge") == 0)
        madvise(at, bytes, MADV_HUGEPAGE);
    for (size_t i = 0; i < bytes; i += PAGE)
        *(uint64_t *)(at + i) = word_of(5, i);
    for (size_t i = 0; i < bytes; i += PAGE)
        wrong += *(uint64_t *)(at + i) != word_of(5, i);
    if (strcmp(how, "locked") == 0)
        usleep(300000); /* for who looks how much it has */
    printf("wrong %zu\n", wrong);
    return wrong != 0;
}
