/* What a thread may run on is what the program has set, however asked; and what it makes runs on that too: while it faults so
   densely that Quire keeps it on one processor. `processors` does all but exec, `processors exec` then becomes itself by each way
   there is. What the kernel itself has is asked in assembly, which nobody stands in front of. How often that was another set is
   told on stderr: natively never. */
#include "case.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>

extern char **environ;
extern pid_t _Fork(void);

enum { ROUNDS = 4, TOUCHES = 500, SAME = 33 };
static const size_t REGION = 48 * MIB;

static cpu_set_t own;
static char *region, self[4096];
static uint64_t first_seed = 7;
static pthread_t first;
static pid_t first_tid;
static unsigned kept, looks;

static long by_hand(long number, long a, long b, const void *c) {
    long answer;
    __asm__ volatile("syscall" : "=a"(answer) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return answer;
}

static cpu_set_t truth(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    by_hand(SYS_sched_getaffinity, 0, sizeof set, &set);
    return set;
}

static int is(cpu_set_t set, cpu_set_t other) {
    return CPU_EQUAL(&set, &other);
}

/* Of its first 64 processors: what is compared after exec. */
static unsigned long word(cpu_set_t set) {
    return *(unsigned long *)&set;
}

/* Faults of this thread alone, many and close to each other. */
static void touch_from(uint64_t *seed) {
    for (int i = 0; i < TOUCHES; i++) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t *at = (uint64_t *)(region + (*seed >> 33) % (REGION / PAGE) * PAGE);
        if (at[1] != (uint64_t)((char *)at - region))
            fail("contents are wrong");
        at[2]++;
    }
}

static void touch(void) {
    touch_from(&first_seed);
    kept += !is(truth(), own);
    looks++;
}

static void fill(void) {
    region = map_memory(REGION);
    for (size_t at = 0; at < REGION; at += PAGE) {
        write_contents(region + at, PAGE / 2, at);
        ((uint64_t *)(region + at))[1] = at;
    }
}

/* Each way to ask. */
static int asked(int way) {
    cpu_set_t set;
    pthread_attr_t attributes;
    memset(&set, 0xff, sizeof set);
    switch (way) {
    case 0:
        return sched_getaffinity(0, sizeof set, &set) == 0 && is(set, own);
    case 1:
        return sched_getaffinity(gettid(), sizeof set, &set) == 0 && is(set, own);
    case 2:
        return pthread_getaffinity_np(pthread_self(), sizeof set, &set) == 0 && is(set, own);
    case 3:
        CPU_ZERO(&set);
        return syscall(SYS_sched_getaffinity, 0, sizeof set, &set) > 0 && is(set, own);
    default:
        if (pthread_getattr_np(pthread_self(), &attributes) != 0)
            return 0;
        int same = pthread_attr_getaffinity_np(&attributes, sizeof set, &set) == 0 && is(set, own);
        pthread_attr_destroy(&attributes);
        return same;
    }
}

/* Threads: each looks for itself. */
static void *thread_looks(void *same) {
    *(int *)same = is(truth(), own);
    return NULL;
}

static int call_looks(void *same) {
    thread_looks(same);
    return 0;
}

static int made_thread(int way) {
    static _Alignas(16) char stack[64 * KIB];
    int same = 0;
    pthread_t thread;
    thrd_t other;
    if (way == 0)
        return pthread_create(&thread, NULL, thread_looks, &same) == 0 && pthread_join(thread, NULL) == 0 && same;
    if (way == 1)
        return thrd_create(&other, call_looks, &same) == thrd_success && thrd_join(other, NULL) == thrd_success && same;
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND;
    pid_t pid = clone(call_looks, stack + sizeof stack, flags, &same);
    return pid > 0 && waitpid(pid, NULL, __WCLONE) == pid && same;
}

static int ended_same(pid_t pid) {
    int status = 0;
    return pid > 0 && waitpid(pid, &status, __WALL) == pid && WIFEXITED(status) && WEXITSTATUS(status) == SAME;
}

static int child_looks(void *unused) {
    (void)unused;
    return is(truth(), own) ? SAME : 1;
}

static int made_child(int way) {
    static _Alignas(16) char stack[64 * KIB];
    pid_t pid = -1;
    switch (way) {
    case 0:
        pid = fork();
        break;
    case 1:
        pid = _Fork();
        break;
    case 2:
        pid = vfork();
        break;
    case 3:
        pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        break;
    case 4:
        return ended_same(clone(child_looks, stack + sizeof stack, SIGCHLD, NULL));
    default:
        return ended_same(clone(child_looks, stack + sizeof stack, SIGCHLD | CLONE_VM | CLONE_VFORK, NULL));
    }
    if (pid == 0)
        _exit(child_looks(NULL));
    return ended_same(pid);
}

/* Other programs: this one, told what it should be allowed. */
static int made_program(int way) {
    static char set[32], line[4200];
    char *words[] = {self, "look", set, NULL};
    pid_t pid = -1;
    int status = 0;
    snprintf(set, sizeof set, "%lx", word(own));
    snprintf(line, sizeof line, "exec '%s' look %s", self, set);
    switch (way) {
    case 0:
        return posix_spawn(&pid, self, NULL, NULL, words, environ) == 0 && ended_same(pid);
    case 1:
        return posix_spawnp(&pid, self, NULL, NULL, words, environ) == 0 && ended_same(pid);
    case 2:
        status = system(line);
        return WIFEXITED(status) && WEXITSTATUS(status) == SAME;
    case 3: {
        FILE *file = popen(line, "r");
        status = file ? pclose(file) : 0;
        return WIFEXITED(status) && WEXITSTATUS(status) == SAME;
    }
    default:
        if ((pid = vfork()) == 0) {
            execv(self, words);
            _exit(97);
        }
        return ended_same(pid);
    }
}

/* What fails is over: afterwards the thread is kept as before, which stderr tells. */
static int failed(int way) {
    char *words[] = {"x", NULL};
    errno = 0;
    switch (way) {
    case 0:
        return execv("/nonexistent/x", words) == -1 && errno == ENOENT;
    case 1:
        return execl("/nonexistent/x", "1", "2", "3", "4", "5", "6", "7", "8", (char *)NULL) == -1 && errno == ENOENT;
    case 2:
        return execle("/nonexistent/x", "1", "2", "3", "4", "5", "6", "7", (char *)NULL, environ) == -1 && errno == ENOENT;
    case 3:
        return syscall(SYS_execve, "/nonexistent/x", words, environ) == -1 && errno == ENOENT;
    default:
        return sched_getaffinity(0, 1, (cpu_set_t *)words) == -1 && errno == EINVAL;
    }
}

/* A set with one processor of the program's own, if it may be another one than `not`. */
static cpu_set_t one_of(cpu_set_t not) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (size_t at = 0; at < CPU_SETSIZE; at++)
        if (CPU_ISSET(at, &own) && (CPU_COUNT(&set) == 0 || CPU_EQUAL(&set, &not))) {
            CPU_ZERO(&set);
            CPU_SET(at, &set);
        }
    return set;
}

static int same_set(cpu_set_t set) {
    cpu_set_t now;
    touch_from(&first_seed);
    return sched_getaffinity(0, sizeof now, &now) == 0 && is(now, set) && is(truth(), set);
}

/* What the program sets holds, at once and later; what others set too. */
static int set_to(int way) {
    cpu_set_t one = one_of(truth());
    int done = 0;
    if (way == 0)
        done = sched_setaffinity(0, sizeof one, &one) == 0;
    if (way == 1)
        done = pthread_setaffinity_np(pthread_self(), sizeof one, &one) == 0;
    if (way == 2)
        done = syscall(SYS_sched_setaffinity, gettid(), sizeof one, &one) == 0;
    if (way == 3)
        done = by_hand(SYS_sched_setaffinity, 0, sizeof one, &one) == 0;
    return done && same_set(one) && same_set(one) && sched_setaffinity(0, sizeof own, &own) == 0;
}

/* Who does not fault for a while is not kept. */
static int rested(int way) {
    (void)way;
    for (int ms = 0; ms < 500; ms++) {
        if (is(truth(), own))
            return 1;
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    return 0;
}

static void section(const char *name, int ways, int (*right)(int)) {
    unsigned kept_before = kept, looks_before = looks;
    int wrong = 0;
    for (int round = 0; round < ROUNDS; round++)
        for (int way = 0; way < ways; way++) {
            touch();
            if (!right(way)) {
                fprintf(stderr, "%s: way %d is wrong\n", name, way);
                wrong++;
            }
        }
    printf("%s: %d wrong\n", name, wrong);
    fflush(stdout);
    fprintf(stderr, "%s: kept in %u of %u\n", name, kept - kept_before, looks - looks_before);
}

/* Another thread, which asks for the first one; or faults too. */
static volatile int done;

static void *asks(void *wrong) {
    while (!done) {
        cpu_set_t by_id, by_name;
        *(int *)wrong += sched_getaffinity(first_tid, sizeof by_id, &by_id) != 0 || !is(by_id, own);
        *(int *)wrong += pthread_getaffinity_np(first, sizeof by_name, &by_name) != 0 || !is(by_name, own);
        nanosleep(&(struct timespec){0, 500000}, NULL);
    }
    return NULL;
}

static void *faults(void *wrong) {
    uint64_t seed = 99;
    while (!done) {
        touch_from(&seed);
        *(int *)wrong += !asked(0);
        *(int *)wrong += !made_thread(0);
        *(int *)wrong += !asked(0);
    }
    return NULL;
}

static void beside(const char *name, void *(*run)(void *), int ways, int (*right)(int)) {
    int wrong = 0;
    pthread_t thread;
    done = 0;
    if (pthread_create(&thread, NULL, run, &wrong) != 0)
        fail("pthread_create");
    section(name, ways, right);
    done = 1;
    pthread_join(thread, NULL);
    printf("%s: the other thread: %d wrong\n", name, wrong);
}

/* Signals come while a fault is answered, too. */
static volatile int wrong_in_handlers, handlers;

static void on_signal(int signal) {
    int saved = errno;
    (void)signal;
    handlers++;
    wrong_in_handlers += !asked(0);
    pid_t pid = vfork();
    if (pid == 0)
        _exit(child_looks(NULL));
    wrong_in_handlers += !ended_same(pid);
    errno = saved;
}

static int signalled(int way) {
    int before = handlers;
    (void)way;
    while (handlers == before)
        touch_from(&first_seed);
    return 1;
}

static void in_handlers(void) {
    struct itimerval often = {{0, 1700}, {0, 1700}}, never = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    section("signals", 10, signalled);
    setitimer(ITIMER_REAL, &never, NULL);
    printf("signals: %d wrong in handlers\n", wrong_in_handlers);
}

static int nothing(int way) {
    (void)way;
    return 1;
}

static void become(int way) {
    static char number[16], set[32];
    snprintf(number, sizeof number, "%d", way + 1);
    snprintf(set, sizeof set, "%lx", word(own));
    char *words[] = {self, "exec", number, set, "4", "5", "6", "7", NULL};
#define WORDS self, "exec", number, set, "4", "5", "6", "7", (char *)NULL
    switch (way) {
    case 0:
        execve(self, words, environ);
        break;
    case 1:
        execv(self, words);
        break;
    case 2:
        execvp(self, words);
        break;
    case 3:
        execvpe(self, words, environ);
        break;
    case 4:
        execl(self, WORDS);
        break;
    case 5:
        execlp(self, WORDS);
        break;
    case 6:
        execle(self, WORDS, environ);
        break;
    case 7:
        fexecve(open(self, O_RDONLY), words, environ);
        break;
    case 8:
        execveat(AT_FDCWD, self, words, environ, 0);
        break;
    case 9:
        syscall(SYS_execve, self, words, environ);
        break;
    default:
        exit(0);
    }
    fail("exec");
}

int main(int argc, char **argv) {
    own = truth();
    first = pthread_self();
    first_tid = gettid();
    if (argc > 2 && strcmp(argv[1], "look") == 0)
        return strtoul(argv[2], NULL, 16) == word(own) ? SAME : 1;
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length < 0)
        fail("/proc/self/exe");
    if (argc > 3) {
        int as_told = argc == 8 && strcmp(argv[7], "7") == 0 && strtoul(argv[3], NULL, 16) == word(own);
        printf("exec, way %d: %s\n", atoi(argv[2]) - 1, as_told ? "right" : "wrong");
        fflush(stdout);
    }
    fill();
    if (argc > 1 && strcmp(argv[1], "exec") == 0) {
        touch();
        fprintf(stderr, "exec: kept in %u of %u\n", kept, looks);
        become(argc > 3 ? atoi(argv[2]) : 0);
    }
    section("asked", 5, asked);
    section("threads", 3, made_thread);
    section("children", 6, made_child);
    section("programs", 5, made_program);
    section("sets", 4, set_to);
    section("rest", 2, rested);
    in_handlers();
    beside("another asks", asks, 3, made_thread);
    beside("another faults", faults, 3, made_thread);
    section("fails", 5, failed);
    section("at last", 4, nothing);
    return 0;
}
