/* A parent that has used much memory waits for a child that works: what the parent does not use is the child's.
 *
 * `idle`: the parent writes 48 MiB and waits. The child, a program of its own, writes 40 MiB and reads it in 120 rounds.
 * `alone`: the same child, and a parent without memory. */
#include "case.h"
#include <spawn.h>
#include <sys/wait.h>

enum { PARENT = 48, CHILD = 40, ROUNDS = 120 };

extern char **environ;

static void work(void) {
    char *at = map_memory(CHILD * MIB);
    write_contents(at, CHILD * MIB, 1);
    size_t wrong = 0;
    for (int round = 0; round < ROUNDS; round++)
        wrong += wrong_words(at, CHILD * MIB, 1);
    printf("child: %zu words are wrong\n", wrong);
    exit(0);
}

int main(int count, char **words) {
    if (count > 1 && strcmp(words[1], "work") == 0)
        work();
    size_t bytes = count > 1 && strcmp(words[1], "idle") == 0 ? PARENT * MIB : 0;
    char *at = bytes > 0 ? map_memory(bytes) : NULL;
    write_contents(at, bytes, 2);
    char *child[] = {words[0], "work", NULL};
    pid_t pid;
    int status;
    if (posix_spawn(&pid, words[0], NULL, NULL, child, environ) != 0 || waitpid(pid, &status, 0) != pid || status != 0)
        fail("the child");
    printf("parent: %zu words are wrong\n", wrong_words(at, bytes, 2));
    return 0;
}
