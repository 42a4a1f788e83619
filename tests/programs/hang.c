// Never ends: the thread `hangs-here` waits for what nobody does, and the program for it.

#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

static void *wait_for_ever(void *memory) {
    pthread_setname_np(pthread_self(), "hangs-here");
    memset(memory, 1, 1 << 20);
    pthread_mutex_lock(&mutex);
    for (;;)
        pthread_cond_wait(&never, &mutex);
    return NULL;
}

int main(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, wait_for_ever, malloc(1 << 20)))
        return 2;
    pthread_join(thread, NULL);
    return 0;
}
