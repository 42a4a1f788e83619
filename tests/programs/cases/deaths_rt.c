/* Real-time threads keep every processor busy while another, as urgent or more, needs its memory: it is served.
   Arguments: what it does, and by which policy: "rr" (all at one priority), "fifo" (the others are less urgent).
   What it took is told on stderr, in seconds. The others give up after some, so that the machine stays usable. */
#include "case.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

enum { GIVE_UP = 4, URGENT = 50, ORDINARY = 2 };
#define DATA (48 * MIB)

static atomic_int done, over;
static pthread_barrier_t start;
static const char *what;
static char *data;
static double began, took;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void *spin(void *unused) {
    pthread_barrier_wait(&start);
    double end = now() + GIVE_UP;
    while (!atomic_load(&done) && now() < end)
        ;
    return unused;
}

/* An ordinary thread that needs memory too, and is overtaken in the middle of it. */
static void *bustle(void *unused) {
    pthread_barrier_wait(&start);
    while (!atomic_load(&over)) {
        char *at = map_memory(256 * KIB);
        memset(at, 1, 256 * KIB);
        mprotect(at, 64 * KIB, PROT_READ);
        munmap(at, 256 * KIB);
    }
    return unused;
}

static size_t fresh(void) {
    char *at = map_memory(32 * MIB);
    memset(at, 1, 32 * MIB);
    return (size_t)at[32 * MIB - 1] - 1;
}

/* One word of each page, in an order that no reading ahead helps, then all of some. */
static size_t read_back(void) {
    size_t pages = DATA / PAGE, wrong = 0;
    for (size_t i = 0; i < 1500; i++) {
        size_t page = i * 7919 % pages;
        wrong += wrong_words(data + page * PAGE, PAGE, page);
    }
    return wrong;
}

static size_t calls(void) {
    size_t wrong = 0;
    for (int i = 0; i < 60; i++) {
        char *at = map_memory(256 * KIB);
        memset(at, 1, 128 * KIB);
        wrong += mprotect(at, 64 * KIB, PROT_READ) != 0;
        wrong += madvise(at + 64 * KIB, 64 * KIB, MADV_DONTNEED) != 0;
        at = mremap(at + 64 * KIB, 192 * KIB, 512 * KIB, MREMAP_MAYMOVE);
        wrong += at == MAP_FAILED || at[0] != 0 || munmap(at, 512 * KIB) != 0;
    }
    return wrong;
}

static size_t children(void) {
    size_t wrong = 0;
    for (int i = 0; i < 3; i++) {
        int status = 1;
        pid_t child = fork();
        if (child == 0)
            _exit((int)wrong_words(data, PAGE, 0));
        waitpid(child, &status, 0);
        wrong += status != 0;
    }
    return wrong;
}

static void *work(void *unused) {
    (void)unused;
    pthread_barrier_wait(&start);
    began = now();
    size_t wrong = strcmp(what, "fresh") == 0 ? fresh()
                   : strcmp(what, "read") == 0 ? read_back()
                   : strcmp(what, "forks") == 0 ? children()
                                                : calls();
    took = now() - began;
    atomic_store(&done, 1);
    return (void *)wrong;
}

static pthread_t thread(void *(*body)(void *), int policy, int priority) {
    pthread_attr_t attributes;
    struct sched_param parameters = {.sched_priority = priority};
    pthread_attr_init(&attributes);
    if (priority > 0) {
        pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
        pthread_attr_setschedpolicy(&attributes, policy);
        pthread_attr_setschedparam(&attributes, &parameters);
    }
    pthread_t made;
    int error = pthread_create(&made, &attributes, body, NULL);
    if (error != 0) {
        printf("no real-time threads: %s\n", strerror(error));
        exit(0);
    }
    return made;
}

int main(int count, char **arguments) {
    if (count < 3)
        return 2;
    what = arguments[1];
    int fifo = strcmp(arguments[2], "fifo") == 0, policy = fifo ? SCHED_FIFO : SCHED_RR;
    cpu_set_t processors;
    sched_getaffinity(0, sizeof processors, &processors);
    int spinners = CPU_COUNT(&processors);
    if (strcmp(what, "fresh") != 0) {
        data = map_memory(DATA);
        for (size_t page = 0; page < DATA / PAGE; page++)
            write_contents(data + page * PAGE, PAGE, page);
        press(32 * MIB);
    }
    pthread_barrier_init(&start, NULL, (unsigned)spinners + 2 + ORDINARY);
    pthread_t worker = thread(work, policy, URGENT), others[64];
    for (int i = 0; i < spinners && i < 64; i++)
        others[i] = thread(spin, policy, fifo ? URGENT - 10 : URGENT);
    pthread_t ordinary[ORDINARY];
    for (int i = 0; i < ORDINARY; i++)
        ordinary[i] = thread(bustle, 0, 0);
    pthread_barrier_wait(&start);
    void *wrong;
    pthread_join(worker, &wrong);
    for (int i = 0; i < spinners && i < 64; i++)
        pthread_join(others[i], NULL);
    atomic_store(&over, 1);
    for (int i = 0; i < ORDINARY; i++)
        pthread_join(ordinary[i], NULL);
    printf("%s: %zu wrong\n", took < GIVE_UP - 1 ? "served" : "starved", (size_t)wrong);
    fprintf(stderr, "%.3f\n", took);
    return 0;
}
