/* Blocks of malloc's against what they must hold: threads that allocate, grow, shrink, look and free, also each
   other's blocks, and forks whose children look at everything.

   heaps BYTES SECONDS [FORK_EVERY_MS]: exit status 0, or 1 with a line that says what differed. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 4 };

/* A slot owns one block. `lock` is held by whoever looks at it or replaces it. */
struct slot {
    pthread_mutex_t lock;
    uint32_t *block;
    size_t size;
    uint32_t mark;
};

static struct slot *slots;
static size_t count;
static volatile int done;

static uint64_t next(uint64_t *state) {
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return *state;
}

/* Mostly sizes that are no power of two, from a few words to 200 KB, half of them below 2 KB. */
static size_t some_size(uint64_t *state) {
    uint64_t draw = next(state);
    size_t most = draw % 100 < 50 ? 2000 : draw % 100 < 90 ? 12000 : draw % 100 < 99 ? 70000 : 200000;
    return 16 + (draw >> 20) % most;
}

static uint32_t word(uint32_t mark, size_t at) { return mark * 2654435761u + (uint32_t)at * 40503u; }

static void write_block(struct slot *slot, size_t from) {
    for (size_t at = from; at < slot->size / 4; at++) slot->block[at] = word(slot->mark, at);
}

static void look(const struct slot *slot, size_t words, const char *when) {
    for (size_t at = 0; at < words; at++) {
        if (slot->block[at] == word(slot->mark, at)) continue;
        fprintf(stderr, "MISMATCH %s: word %zu of a block of %zu bytes at %p\n", when, at, slot->size,
                (void *)slot->block);
        _exit(1);
    }
}

static void *need(void *block) {
    if (!block) fprintf(stderr, "no memory\n"), _exit(1);
    return block;
}

static void renew(struct slot *slot, uint64_t *state) {
    free(slot->block);
    slot->size = some_size(state);
    slot->mark = (uint32_t)next(state);
    if (next(state) % 4 == 0) {
        slot->block = need(calloc(1, slot->size));
        for (size_t at = 0; at < slot->size / 4; at++)
            if (slot->block[at]) fprintf(stderr, "MISMATCH: calloc's block is not zero\n"), _exit(1);
    } else {
        slot->block = need(malloc(slot->size));
    }
    write_block(slot, 0);
}

static void resize(struct slot *slot, uint64_t *state) {
    size_t size = some_size(state), kept = (size < slot->size ? size : slot->size) / 4;
    slot->block = need(realloc(slot->block, size));
    slot->size = size;
    look(slot, kept, "after realloc");
    write_block(slot, kept);
}

static void *work(void *number) {
    uint64_t state = 0x9E3779B97F4A7C15u * ((uintptr_t)number + 1);
    while (!done) {
        struct slot *slot = &slots[next(&state) % count];
        pthread_mutex_lock(&slot->lock);
        switch (next(&state) % 8) {
        case 0: renew(slot, &state); break;
        case 1: resize(slot, &state); break;
        default: look(slot, slot->size / 4, "in place");
        }
        pthread_mutex_unlock(&slot->lock);
    }
    return NULL;
}

/* What other threads were changing at the fork is left out: their locks are held. */
static void look_at_all(void) {
    for (size_t i = 0; i < count; i++)
        if (pthread_mutex_trylock(&slots[i].lock) == 0) look(&slots[i], slots[i].size / 4, "in a child");
    uint64_t state = 77;
    for (int i = 0; i < 200; i++) free(need(malloc(some_size(&state))));
    _exit(0);
}

static void fork_once(void) {
    pid_t pid = fork();
    if (pid == 0) look_at_all();
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
        fprintf(stderr, "MISMATCH: a child ended with status %d\n", pid < 0 ? -1 : status);
        _exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "usage: heaps BYTES SECONDS [FORK_EVERY_MS]\n"), 2;
    long bytes = atol(argv[1]), every = argc > 3 ? atol(argv[3]) : 0;
    double seconds = atof(argv[2]);
    uint64_t state = 42;
    count = (size_t)bytes / 6000; /* what a block has on the average, about */
    slots = need(calloc(count, sizeof *slots));
    for (size_t i = 0; i < count; i++) {
        pthread_mutex_init(&slots[i].lock, NULL);
        renew(&slots[i], &state);
    }
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, work, (void *)i);
    struct timespec pause = {0, (every ? every : 10) * 1000000};
    int forks = 0;
    for (double waited = 0; waited < seconds; waited += pause.tv_nsec / 1e9) {
        nanosleep(&pause, NULL);
        if (every) fork_once(), forks++;
    }
    done = 1;
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (size_t i = 0; i < count; i++) look(&slots[i], slots[i].size / 4, "at the end");
    printf("heaps: %zu blocks, %d forks\n", count, forks);
    return 0;
}
