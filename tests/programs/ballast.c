/* Linked into a program that is too small for pressure of its own: with BALLAST=MIB in the environment a thread writes and
 * reads that much memory, over and over, while the program runs. A wrong word there ends the process with status 98. */
#include "cases/case.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

static size_t bytes;
static char *memory;
static pid_t owner;
static pthread_t thread;
static atomic_bool done;

static void *sweep(void *unused) {
    for (uint64_t round = 0; !done; round++)
        for (size_t at = 0; at < bytes && !done; at += PAGE) {
            if (round > 0 && wrong_words(memory + at, PAGE, round - 1 + at) != 0)
                _exit(98);
            write_contents(memory + at, PAGE, round + at);
            if (at % (256 * KIB) == 0)
                usleep(2000); /* The program gets a turn. */
        }
    return unused;
}

__attribute__((constructor)) static void begin(void) {
    const char *size = getenv("BALLAST");
    if (!size)
        return;
    bytes = strtoul(size, NULL, 10) * MIB;
    /* Not for what it starts. */
    unsetenv("BALLAST");
    memory = map_memory(bytes);
    owner = getpid();
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    if (pthread_create(&thread, NULL, sweep, NULL) != 0)
        fail("pthread_create");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    /* The first round is over when there is pressure. */
    while (((volatile char *)memory)[bytes - PAGE] == 0)
        usleep(1000);
}

__attribute__((destructor)) static void end(void) {
    /* A child has no such thread. */
    if (owner != getpid())
        return;
    done = true;
    pthread_join(thread, NULL);
    /* All of it comes back once, however short the program was. */
    for (size_t at = 0; at < bytes; at += PAGE)
        (void)((volatile char *)memory)[at];
}
