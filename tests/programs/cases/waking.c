/* Threads, calls on memory, locks, marks and forks for a while, in the middle of which the process may wake: waking MS. What is wrong
 * is counted. waking MS signals: with a signal 300 us after the last besides, whose handler touches and maps memory. waking MS stop US: stopped
 * after so many microseconds, and again each time it goes on. waking MS exec|exit|kill US: in the middle another program, the end with
 * status 7, or an end by force. waking MS refused: a thread that becomes another program again and again, which the kernel refuses. */
#include "case.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

enum { THREADS = 4, BLOCKS = 48, LEN = 96 * 1024 };

extern char **environ;
static atomic_int wrong_count, children;
static struct timespec end;

static int over(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec > end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec >= end.tv_nsec);
}

static void check(const void *at, size_t bytes, uint64_t seed) {
    if (wrong_words(at, bytes, seed) != 0)
        wrong_count++;
}

/* A child has its parent's memory, and its own calls on it. */
static void child_of(const void *at, size_t bytes, uint64_t seed) {
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        char *more = map_memory(LEN);
        write_contents(more, LEN, seed + 1);
        free(malloc(300000));
        _exit(wrong_words(at, bytes, seed) != 0 || wrong_words(more, LEN, seed + 1) != 0 || munmap(more, LEN) != 0);
    }
    int status;
    if (waitpid(child, &status, 0) != child || status != 0)
        wrong_count++;
    children++;
}

static void *work(void *argument) {
    uint64_t number = (uintptr_t)argument, round = 0;
    void *blocks[BLOCKS] = {0};
    size_t sizes[BLOCKS];
    char *kept = map_memory(16 * LEN);
    write_contents(kept, 16 * LEN, number);
    char *shared = map_memory(2 * LEN);
    write_contents(shared, 2 * LEN, number);
    if (mlock(kept, PAGE) != 0 || madvise(kept + LEN, PAGE, MADV_DONTFORK) != 0)
        fail("marks");
    do {
        unsigned at = (unsigned)(round * 7 + number) % BLOCKS;
        uint64_t seed = number << 32 | at;
        if (blocks[at] != NULL) {
            check(blocks[at], sizes[at] / 8 * 8, seed);
            size_t size = 64 + (round * 7919) % 200000;
            size_t both = size < sizes[at] ? size : sizes[at];
            blocks[at] = realloc(blocks[at], size);
            check(blocks[at], both / 8 * 8, seed);
            write_contents(blocks[at], size / 8 * 8, seed);
            sizes[at] = size;
            if (round % 5 == 0)
                free(blocks[at]), blocks[at] = NULL;
        } else {
            sizes[at] = 64 + (round * 104729) % 200000;
            blocks[at] = malloc(sizes[at]);
            write_contents(blocks[at], sizes[at] / 8 * 8, seed);
        }
        char *map = map_memory(2 * LEN);
        write_contents(map, LEN, seed);
        if (mprotect(map, LEN, PROT_READ) != 0 || madvise(map + LEN, LEN, MADV_DONTNEED) != 0)
            fail("rights");
        check(map, LEN, seed);
        if (mprotect(map, LEN, PROT_READ | PROT_WRITE) != 0)
            fail("rights");
        char *moved = mremap(map, 2 * LEN, 3 * LEN, MREMAP_MAYMOVE);
        if (moved == MAP_FAILED)
            fail("mremap");
        check(moved, LEN, seed);
        if (moved[LEN] != 0 || munmap(moved, 3 * LEN) != 0)
            wrong_count++;
        if (round % 16 == number)
            child_of(shared, 2 * LEN, number);
        round++;
    } while (!over());
    check(kept, 16 * LEN, number);
    return NULL;
}

static char *of_handler;

/* The next one is not due before the last was handled, however long that takes. */
static void next_signal(void) {
    struct itimerval once = {{0, 0}, {0, 300}};
    if (setitimer(ITIMER_REAL, &once, NULL) != 0)
        fail("setitimer");
}

/* What it touches was there before, or comes and goes here. */
static void handle(int number) {
    (void)number;
    int before = errno;
    of_handler[(size_t)(rand() % 32) * PAGE]++;
    char *map = map_memory(3 * PAGE);
    write_contents(map, PAGE, 9);
    if (wrong_words(map, PAGE, 9) != 0 || map[2 * PAGE] != 0 || munmap(map, 3 * PAGE) != 0)
        wrong_count++;
    next_signal();
    errno = before;
}

static void begin_signals(void) {
    of_handler = map_memory(32 * PAGE);
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    if (sigaction(SIGALRM, &action, NULL) != 0)
        fail("sigaction");
    next_signal();
}

/* Another process stops this one again and again, until it is over. */
static pid_t begin_stops(useconds_t after) {
    pid_t own = getpid(), child = fork();
    if (child < 0)
        fail("fork");
    if (child > 0)
        return child;
    do {
        usleep(after);
        kill(own, SIGSTOP);
        usleep(500);
        kill(own, SIGCONT);
    } while (!over() && getppid() == own);
    _exit(0);
}

static void *exec_in_vain(void *argument) {
    static const char text[] = "no program";
    char *argv[] = {argument, NULL};
    int file = memfd_create("in vain", MFD_CLOEXEC);
    if (file < 0 || write(file, text, sizeof text) != sizeof text)
        fail("memfd_create");
    do
        fexecve(file, argv, environ);
    while (!over());
    return NULL;
}

static void end_by(const char *how, char **argv) {
    if (strcmp(how, "exec") == 0)
        execl(argv[0], argv[0], argv[1], (char *)NULL), fail("exec");
    else if (strcmp(how, "exit") == 0)
        exit(wrong_count == 0 ? 7 : 1);
    else
        kill(getpid(), SIGKILL);
}

int main(int argc, char **argv) {
    long ms = argc > 1 ? atol(argv[1]) : 50;
    const char *how = argc > 2 ? argv[2] : "";
    useconds_t after = argc > 3 ? (useconds_t)atoi(argv[3]) : 0;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += ms * 1000000;
    end.tv_sec += end.tv_nsec / 1000000000, end.tv_nsec %= 1000000000;
    pid_t stops = strcmp(how, "stop") == 0 ? begin_stops(after) : 0;
    pthread_t threads[THREADS], in_vain;
    int refused = strcmp(how, "refused") == 0;
    for (uintptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)i) != 0)
            fail("pthread_create");
    if (refused && pthread_create(&in_vain, NULL, exec_in_vain, argv[0]) != 0)
        fail("pthread_create");
    if (strcmp(how, "signals") == 0) {
        begin_signals();
    } else if (after > 0 && stops == 0 && !refused) {
        usleep(after);
        end_by(how, argv);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    if (refused)
        pthread_join(in_vain, NULL);
    if (stops != 0 && waitpid(stops, NULL, 0) != stops)
        fail("waitpid");
    printf("wrong %d, %s\n", wrong_count, children > 0 ? "with children" : "without");
    return wrong_count != 0;
}
