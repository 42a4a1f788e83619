/* The calls, each with all that it has to answer. */
#include "signals.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define READ_WRITE (PROT_READ | PROT_WRITE)
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)
#define BYTES (GROUND_PAGES * PAGE)
/* One page of the ground. */
#define AT(page) (ground->at + (page)*PAGE)

extern char **environ;
extern pid_t _Fork(void);

void make_ground(struct ground *ground) {
    ground->at = map_memory(BYTES);
    for (uint64_t page = 0; page < GROUND_PAGES; page++)
        write_contents(AT(page), PAGE, page);
    ground->file = memfd_create("ground", 0);
    ground->self = syscall(SYS_pidfd_open, getpid(), 0);
    ground->socket = socket(AF_UNIX, SOCK_STREAM, 0);
    if (ground->file < 0 || ftruncate(ground->file, BYTES) != 0 || ground->self < 0 || ground->socket < 0)
        fail("ground");
}

void drop_ground(struct ground *ground) {
    munmap(ground->at, BYTES);
    close(ground->file);
    close(ground->self);
    close(ground->socket);
}

static bool holds(struct ground *ground, uint64_t page) {
    return wrong_words(AT(page), PAGE, page) == 0;
}

static bool map_and_unmap(struct ground *ground) {
    (void)ground;
    char *at = mmap(NULL, 5 * PAGE, READ_WRITE, ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return false;
    at[4 * PAGE] = 1;
    /* What is free may be another thread's next. */
    return at[0] == 0 && munmap(at + PAGE, PAGE) == 0 && munmap(at, PAGE) == 0 && munmap(at + 2 * PAGE, 3 * PAGE) == 0;
}

static bool map_over(struct ground *ground) {
    char *at = mmap(AT(2), PAGE + 1, READ_WRITE, ANONYMOUS | MAP_FIXED, -1, 0);
    bool zero = at == AT(2) && *AT(2) == 0 && *AT(3) == 0 && holds(ground, 4) && holds(ground, 1);
    write_contents(AT(2), PAGE, 2);
    write_contents(AT(3), PAGE, 3);
    return zero;
}

static bool map_a_file_over(struct ground *ground) {
    char *at = mmap(AT(4), 2 * PAGE, READ_WRITE, MAP_SHARED | MAP_FIXED, ground->file, 0);
    bool there = at == AT(4) && msync(at, 2 * PAGE, MS_SYNC) == 0 && holds(ground, 6);
    at = mmap(AT(4), 2 * PAGE, READ_WRITE, ANONYMOUS | MAP_FIXED, -1, 0);
    there &= at == AT(4) && *at == 0;
    write_contents(AT(4), PAGE, 4);
    write_contents(AT(5), PAGE, 5);
    return there;
}

static bool remap(struct ground *ground) {
    (void)ground;
    char *at = map_memory(3 * PAGE);
    write_contents(at, 3 * PAGE, 9);
    char *grown = mremap(at, 3 * PAGE, 5 * PAGE + 100, MREMAP_MAYMOVE);
    if (grown == MAP_FAILED || wrong_words(grown, 3 * PAGE, 9) != 0 || grown[5 * PAGE] != 0)
        return false;
    char *to = map_memory(6 * PAGE);
    to = mremap(grown, 6 * PAGE, 6 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    if (to == MAP_FAILED || wrong_words(to, 3 * PAGE, 9) != 0 || mremap(to, 6 * PAGE, 2 * PAGE, 0) != to)
        return false;
    char *away = mremap(to, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    bool right = away != MAP_FAILED && wrong_words(away, 2 * PAGE, 9) == 0 && *to == 0;
    return right && munmap(away, 2 * PAGE) == 0 && munmap(to, 2 * PAGE) == 0 && mremap(to + 1, PAGE, PAGE, 0) == MAP_FAILED &&
           errno == EINVAL;
}

static bool protect(struct ground *ground) {
    bool done = mprotect(AT(7), 2 * PAGE, PROT_NONE) == 0 && mprotect(AT(7), PAGE, PROT_READ) == 0;
    done &= holds(ground, 7) && pkey_mprotect(AT(7), 2 * PAGE, READ_WRITE, -1) == 0 && holds(ground, 8);
    return done && mprotect(AT(7) + 1, PAGE, PROT_NONE) == -1 && errno == EINVAL;
}

static bool advise(struct ground *ground) {
    bool done = madvise(AT(9), 2 * PAGE, MADV_PAGEOUT) == 0 && madvise(AT(9), PAGE, MADV_COLD) == 0 && holds(ground, 10);
    done &= posix_madvise(AT(9), PAGE, POSIX_MADV_DONTNEED) == 0 && madvise(AT(9), PAGE, MADV_WILLNEED) == 0;
    done &= holds(ground, 9) && madvise(AT(10), PAGE, MADV_DONTNEED) == 0 && *AT(10) == 0;
    struct iovec range = {AT(11), PAGE};
    done &= process_madvise(ground->self, &range, 1, MADV_WILLNEED, 0) == (ssize_t)PAGE;
    write_contents(AT(10), PAGE, 10);
    return done && madvise(AT(9), PAGE, 12345) == -1 && errno == EINVAL;
}

static bool look(struct ground *ground) {
    unsigned char vector[4];
    bool done = mincore(AT(11), 4 * PAGE, vector) == 0 && msync(AT(11), PAGE, MS_ASYNC) == 0;
    return done && mincore(AT(11), PAGE, NULL) == -1 && errno == EFAULT;
}

static bool lock(struct ground *ground) {
    bool done = mlock(AT(12) + 7, PAGE) == 0 && mlock2(AT(14), PAGE, MLOCK_ONFAULT) == 0;
    done &= madvise(AT(12), PAGE, MADV_DONTNEED) == -1 && errno == EINVAL;
    return done && munlock(AT(12), 3 * PAGE) == 0 && holds(ground, 13);
}

static bool by_number(struct ground *ground) {
    char *at = (char *)syscall(SYS_mmap, NULL, 2 * PAGE, READ_WRITE, ANONYMOUS, -1, 0L);
    bool done = at != MAP_FAILED && syscall(SYS_mprotect, at, PAGE, PROT_READ) == 0 && *at == 0;
    done &= syscall(SYS_madvise, at, PAGE, MADV_DONTNEED) == 0 && syscall(SYS_munmap, at, 2 * PAGE) == 0;
    return done && syscall(SYS_mincore, AT(1), 0, NULL) == 0 && syscall(SYS_close, -1) == -1 && errno == EBADF;
}

static bool blocks(struct ground *ground) {
    (void)ground;
    char *small = malloc(100), *large = malloc(300000), *aligned = aligned_alloc(64, 640);
    memset(large, 1, 300000);
    large = realloc(large, 500000);
    bool right = small && aligned && large && large[299999] == 1 && malloc_usable_size(large) >= 500000;
    free(small), free(large), free(aligned);
    char *zero = calloc(3, 1000);
    right &= zero && zero[2999] == 0;
    free(zero);
    return right;
}

static bool others(struct ground *ground) {
    struct rlimit limit, again;
    char name[16];
    int waiting = -1, size = 1 << 16;
    bool done = getrlimit(RLIMIT_AS, &limit) == 0 && prlimit(0, RLIMIT_AS, NULL, &again) == 0;
    done &= limit.rlim_cur == again.rlim_cur && setrlimit(RLIMIT_AS, &limit) == 0;
    done &= prctl(PR_GET_NAME, name) == 0 && ioctl(ground->file, FIONREAD, &waiting) == 0;
    return done && setsockopt(ground->socket, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) == 0;
}

static bool mutexes(struct ground *ground) {
    (void)ground;
    pthread_mutexattr_t attributes;
    pthread_mutex_t *mutex = map_memory(PAGE);
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    bool done = pthread_mutex_init(mutex, &attributes) == 0 && pthread_mutex_lock(mutex) == 0;
    done &= pthread_mutex_unlock(mutex) == 0 && pthread_mutex_destroy(mutex) == 0;
    return munmap(mutex, PAGE) == 0 && done;
}

static void *say_mask(void *unused) {
    (void)unused;
    return (void *)blocked_signals();
}

/* A thread on a stack of the program's own begins with its maker's mask. */
static bool thread(struct ground *ground) {
    (void)ground;
    pthread_t made;
    pthread_attr_t attributes;
    void *mask = NULL, *stack = map_memory(64 * PAGE);
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, 64 * PAGE);
    bool done = pthread_create(&made, &attributes, say_mask, NULL) == 0 && pthread_join(made, &mask) == 0;
    /* libc keeps two signals for itself, which a new thread has not blocked. */
    return munmap(stack, 64 * PAGE) == 0 && done && (((uint64_t)mask ^ blocked_signals()) & ~(BIT(32) | BIT(33))) == 0;
}

static bool ends_well(pid_t pid) {
    int status = -1;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status == 0;
}

static bool forked(struct ground *ground) {
    uint64_t mask = blocked_signals();
    pid_t pid = fork();
    if (pid == 0)
        _exit(holds(ground, 15) && blocked_signals() == mask ? 0 : 1);
    return ends_well(pid);
}

static bool forked_bare(struct ground *ground) {
    uint64_t mask = blocked_signals();
    pid_t pid = _Fork();
    if (pid == 0)
        _exit(holds(ground, 16) && blocked_signals() == mask ? 0 : 1);
    return ends_well(pid);
}

static bool cloned(struct ground *ground) {
    uint64_t mask = blocked_signals();
    pid_t pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(holds(ground, 17) && blocked_signals() == mask ? 0 : 1);
    return ends_well(pid);
}

static bool spawned(struct ground *ground) {
    (void)ground;
    pid_t pid = 0;
    char *arguments[] = {"true", NULL};
    return posix_spawnp(&pid, "true", NULL, NULL, arguments, environ) == 0 && ends_well(pid);
}

const struct call calls[] = {
    {"mmap, munmap", map_and_unmap, false},
    {"mmap over memory", map_over, false},
    {"mmap of a file over memory", map_a_file_over, false},
    {"mremap", remap, false},
    {"mprotect", protect, false},
    {"madvise", advise, false},
    {"mincore, msync", look, false},
    {"mlock", lock, false},
    {"syscall", by_number, false},
    {"malloc", blocks, false},
    {"rlimit, prctl, ioctl, setsockopt", others, false},
    {"pthread_mutex_init", mutexes, false},
    {"pthread_create", thread, true},
    {"fork", forked, true},
    {"_Fork", forked_bare, true},
    {"clone", cloned, true},
    {"posix_spawn", spawned, true},
};
const size_t call_count = sizeof calls / sizeof calls[0];
