/* A parent that forks workers, each of which fills memory of its own and keeps it for a moment: workers COUNT MIB */
#include "case.h"

#include <sys/wait.h>

static int work(size_t bytes, int number) {
    char *at = map_memory(bytes);
    write_contents(at, bytes, (uint64_t)number);
    usleep(400000);
    return wrong_words(at, bytes, (uint64_t)number) == 0 ? number : 90;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 98;
    int count = atoi(argv[1]);
    size_t bytes = strtoul(argv[2], NULL, 10) * MIB;
    for (int number = 0; number < count; number++)
        if (fork() == 0)
            _exit(work(bytes, number));
    int sum = 0, status;
    while (wait(&status) > 0)
        sum += WEXITSTATUS(status);
    printf("sum %d\n", sum);
    return 0;
}
