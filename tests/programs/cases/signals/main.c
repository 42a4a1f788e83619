/* signals masks|storm|repair|children: see signals.h. */
#include "signals.h"

#include <pthread.h>
#include <stdatomic.h>

/* Seconds without progress, after which it hangs. */
#define PATIENCE 20

static _Atomic(const char *) current = "nothing";
static atomic_ulong entered;

void entering(const char *call) {
    current = call;
    entered++;
}

static void *watch(void *unused) {
    unsigned long seen = 0;
    for (int still = 0; still < PATIENCE; still++) {
        sleep(1);
        if (entered != seen)
            still = 0;
        seen = entered;
    }
    printf("hung in %s\n", current);
    fflush(stdout);
    _exit(5);
    return unused;
}

int main(int argc, char **argv) {
    pthread_t watcher;
    const char *part = argc > 1 ? argv[1] : "";
    if (strcmp(part, "inherited") == 0) {
        report_inherited();
        return 0;
    }
    block_signals(~0UL);
    pthread_create(&watcher, NULL, watch, NULL);
    block_signals(0);
    if (strcmp(part, "masks") == 0)
        masks();
    else if (strcmp(part, "storm") == 0)
        storm();
    else if (strcmp(part, "repair") == 0)
        repair();
    else if (strcmp(part, "children") == 0)
        children("/proc/self/exe");
    else
        return 2;
    return 0;
}
