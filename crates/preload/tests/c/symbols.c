/* Each symbol that the library takes over is called, and answers as libc's own. tests/lib/cases/preload.py looks for each
   of them in this file: none may be forgotten. */
#define _GNU_SOURCE
#include "check.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <threads.h>
#include <unistd.h>

#define FIND(result, name, ...) result (*name)(__VA_ARGS__) = (result(*)(__VA_ARGS__))dlsym(RTLD_DEFAULT, #name)
#define REFUSED(call, error) CHECK((errno = 0, (long)(call) == -1) && errno == (error))

extern char **environ;
extern int capset(void *, void *);
extern pid_t _Fork(void);
extern pid_t __vfork(void) __attribute__((returns_twice));
extern int __clone(int (*)(void *), void *, int, void *, ...);
enum { PAGE = 4096, LEN = 16 * PAGE };

static char *fresh(void) {
    char *at = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    memset(at, 5, LEN);
    return at;
}

/* mmap mmap64 munmap mremap mprotect pkey_mprotect madvise posix_madvise process_madvise mincore msync */
static void of_memory(void) {
    char *at = fresh(), *to;
    unsigned char vector[16];
    int fd = memfd_create("symbols", 0), self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    CHECK(fd >= 0 && self >= 0 && ftruncate(fd, LEN) == 0);
    CHECK(mmap64(at, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, PAGE) == at && *at == 0);
    *at = 3;
    CHECK(msync(at, PAGE + 1, MS_SYNC) == 0 && pread(fd, vector, 1, PAGE) == 1 && vector[0] == 3);
    REFUSED(msync(at + 1, PAGE, MS_SYNC), EINVAL);
    REFUSED(msync(at, PAGE, MS_ASYNC | MS_SYNC), EINVAL);
    CHECK(mprotect(at + PAGE, PAGE + 1, PROT_READ) == 0 && at[PAGE] == 5);
    REFUSED(mprotect(at + 1, PAGE, PROT_READ), EINVAL);
    REFUSED(read(open("/dev/zero", O_RDONLY), at + 2 * PAGE, 1), EFAULT);
    CHECK(pkey_mprotect(at + PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, -1) == 0 && (at[2 * PAGE] = 6) == 6);
    REFUSED(pkey_mprotect(at + PAGE, PAGE, PROT_READ, 99), EINVAL);
    CHECK(mincore(at, LEN, vector) == 0 && (vector[1] & 1) == 1);
    REFUSED(mincore(at, LEN, NULL), EFAULT);
    REFUSED(mincore(at + 1, PAGE, vector), EINVAL);
    CHECK(madvise(at + 3 * PAGE, PAGE + 1, MADV_DONTNEED) == 0 && at[3 * PAGE] == 0 && at[4 * PAGE] == 0 && at[5 * PAGE] == 5);
    REFUSED(madvise(at, PAGE, 12345), EINVAL);
    errno = 77;
    CHECK(posix_madvise(at + 1, PAGE, POSIX_MADV_NORMAL) == EINVAL && errno == 77);
    CHECK(posix_madvise(at, LEN, POSIX_MADV_DONTNEED) == 0 && at[5 * PAGE] == 5);
    struct iovec ranges[] = {{at + 6 * PAGE, PAGE}, {at + 8 * PAGE, 2 * PAGE}};
    CHECK(process_madvise(self, ranges, 2, MADV_WILLNEED, 0) == 3 * PAGE && at[9 * PAGE] == 5);
    REFUSED(process_madvise(-1, ranges, 2, MADV_WILLNEED, 0), EBADF);
    /* Lengths that are no multiple of a page are those of whole pages. */
    to = mremap(at + 10 * PAGE, 2 * PAGE - 17, 3 * PAGE + 1, MREMAP_MAYMOVE);
    CHECK(to != MAP_FAILED && to[2 * PAGE - 1] == 5 && to[2 * PAGE] == 0 && to[4 * PAGE - 1] == 0);
    CHECK(mremap(to, 4 * PAGE - 5, PAGE + 1, 0) == to && to[PAGE] == 5);
    REFUSED(munmap(to + 1, PAGE), EINVAL);
    /* With MREMAP_DONTUNMAP the address is a hint, but has to be one. */
    REFUSED(mremap(to, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, at + 1), EINVAL);
    REFUSED(mremap(to, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, (void *)(-3L * PAGE)), EINVAL);
    CHECK(munmap(to, PAGE + 1) == 0);
    REFUSED(mincore(to, 2 * PAGE, vector), ENOMEM);
    REFUSED(mremap(to, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | 8, at), EINVAL);
    CHECK(munmap(at, LEN) == 0 && close(fd) == 0 && close(self) == 0);
}

/* mlock mlock2 munlock mlockall munlockall sbrk prctl ioctl setsockopt unshare setns */
static void of_process(void) {
    char *at = fresh(), name[16] = "";
    REFUSED(mlock2(at, PAGE, 8), EINVAL);
    CHECK(mlock(at + 1, PAGE) == 0 && mlock2(at + 4 * PAGE, PAGE, MLOCK_ONFAULT) == 0);
    REFUSED(madvise(at + PAGE, PAGE, MADV_DONTNEED), EINVAL);
    REFUSED(madvise(at + 4 * PAGE, PAGE, MADV_DONTNEED), EINVAL);
    CHECK(munlock(at, LEN) == 0 && madvise(at + PAGE, PAGE, MADV_DONTNEED) == 0 && at[PAGE] == 0);
    REFUSED(mlockall(0), EINVAL);
    REFUSED(mlockall(MCL_ONFAULT), EINVAL);
    REFUSED(mlockall(MCL_CURRENT | 8), EINVAL);
    CHECK(mlockall(MCL_FUTURE | MCL_ONFAULT) == 0);
    char *later = fresh();
    REFUSED(madvise(later, PAGE, MADV_DONTNEED), EINVAL);
    /* ENOMEM: all of it may be more than the budget. In any case what comes later is not locked any more. */
    CHECK(mlockall(MCL_CURRENT | MCL_ONFAULT) == 0 || errno == ENOMEM);
    char *last = fresh();
    CHECK(madvise(last, PAGE, MADV_DONTNEED) == 0 && *last == 0);
    CHECK(munlockall() == 0 && madvise(later, PAGE, MADV_DONTNEED) == 0 && *later == 0);
    CHECK(munmap(later, LEN) == 0 && munmap(last, LEN) == 0);
    char *end = sbrk(0);
    CHECK(sbrk(3 * PAGE) == end && (end[3 * PAGE - 1] = 1) == 1 && sbrk(-3 * PAGE) == end + 3 * PAGE && sbrk(0) == end);
    CHECK(prctl(PR_SET_NAME, "symbols") == 0 && prctl(PR_GET_NAME, name) == 0 && strcmp(name, "symbols") == 0);
    REFUSED(prctl(-5), EINVAL);
    int waiting = -1, size = 0, ends[2];
    socklen_t length = sizeof size;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 && write(ends[0], "four", 4) == 4);
    CHECK(ioctl(ends[1], FIONREAD, &waiting) == 0 && waiting == 4);
    REFUSED(ioctl(-1, FIONREAD, &waiting), EBADF);
    CHECK(setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)) == 0);
    CHECK(getsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &size, &length) == 0 && size == 1);
    REFUSED(setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &size, 1), EINVAL);
    CHECK(unshare(0) == 0);
    REFUSED(unshare(1), EINVAL);
    REFUSED(setns(ends[0], 0), EINVAL);
    REFUSED(setns(-1, 0), EBADF);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0 && munmap(at, LEN) == 0);
}

/* setuid seteuid setreuid setresuid capset chroot */
static void of_rights(void) {
    CHECK(setuid(geteuid()) == 0 && seteuid(geteuid()) == 0);
    CHECK(setreuid(-1, -1) == 0 && setresuid(-1, -1, -1) == 0);
    REFUSED(capset(NULL, NULL), EFAULT);
    REFUSED(chroot("/there is no such place"), ENOENT);
}

/* getrlimit getrlimit64 setrlimit setrlimit64 prlimit prlimit64 */
static void of_limits(void) {
    struct rlimit limit, again;
    struct rlimit64 wide;
    CHECK(getrlimit(RLIMIT_AS, &limit) == 0 && prlimit(0, RLIMIT_AS, NULL, &again) == 0);
    CHECK(memcmp(&limit, &again, sizeof limit) == 0);
    limit.rlim_cur = 1UL << 46;
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0 && getrlimit64(RLIMIT_AS, &wide) == 0 && wide.rlim_cur == 1UL << 46);
    wide.rlim_cur = 1UL << 45;
    CHECK(setrlimit64(RLIMIT_AS, &wide) == 0 && getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur == 1UL << 45);
    wide.rlim_cur = 1UL << 44;
    CHECK(prlimit64(getpid(), RLIMIT_DATA, &wide, NULL) == 0 && getrlimit(RLIMIT_DATA, &limit) == 0 && limit.rlim_cur == 1UL << 44);
    CHECK(prlimit(0, RLIMIT_AS, &again, &limit) == 0 && limit.rlim_cur == 1UL << 45);
    again.rlim_cur = again.rlim_max = RLIM_INFINITY;
    CHECK(setrlimit(RLIMIT_DATA, &again) == 0);
    REFUSED(getrlimit(999, &limit), EINVAL);
    limit.rlim_cur = 2, limit.rlim_max = 1;
    REFUSED(setrlimit(RLIMIT_AS, &limit), EINVAL);
}

static void on_signal(int signal) {
    (void)signal;
}

static void on_info(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info, (void)context;
}

typedef void (*handler)(int);

/* sigaction __sigaction signal bsd_signal ssignal sysv_signal __sysv_signal sigset */
static void of_signals(void) {
    FIND(int, __sigaction, int, const struct sigaction *, struct sigaction *);
    static const char *const names[] = {"signal", "bsd_signal", "ssignal", "sysv_signal", "__sysv_signal", "sigset"};
    struct sigaction action = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO | SA_NODEFER}, old;
    sigaddset(&action.sa_mask, SIGUSR2);
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGSEGV, NULL, &old) == 0);
    CHECK(old.sa_sigaction == on_info && (old.sa_flags & ~0x4000000) == (SA_SIGINFO | SA_NODEFER));
    CHECK(sigismember(&old.sa_mask, SIGUSR2) == 1 && sigismember(&old.sa_mask, SIGUSR1) == 0);
    CHECK(!__sigaction || (__sigaction(SIGSEGV, NULL, &old) == 0 && old.sa_sigaction == on_info));
    REFUSED(sigaction(99, &action, NULL), EINVAL);
    REFUSED(sigaction(SIGKILL, &action, NULL), EINVAL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        handler (*set)(int, handler) = (handler(*)(int, handler))dlsym(RTLD_DEFAULT, names[i]);
        if (!set)
            continue;
        CHECK(sigaction(SIGSEGV, &action, NULL) == 0 && set(SIGSEGV, on_signal) == (handler)(void *)on_info);
        CHECK(set(SIGSEGV, SIG_DFL) == on_signal && sigaction(SIGSEGV, NULL, &old) == 0 && old.sa_handler == SIG_DFL);
        REFUSED(set(99, on_signal), EINVAL);
    }
}

static void ends_with(pid_t pid, int expected) {
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, __WALL) == pid && WIFEXITED(status) && WEXITSTATUS(status) == expected);
}

static int in_child(void *at) {
    return *(char *)at == 5 ? 33 : 1;
}

/* _Fork vfork __vfork clone __clone syscall posix_spawn posix_spawnp popen system pthread_create */
static void of_children(void) {
    char *at = fresh(), *stack = fresh(), line[16] = "", *words[] = {"sh", "-c", "exit 33", NULL};
    pid_t pid = _Fork();
    if (pid == 0)
        _exit(in_child(at));
    ends_with(pid, 33);
    if ((pid = vfork()) == 0)
        _exit(in_child(at));
    ends_with(pid, 33);
    if ((pid = __vfork()) == 0)
        _exit(in_child(at));
    ends_with(pid, 33);
    ends_with(clone(in_child, stack + LEN, SIGCHLD, at), 33);
    ends_with(__clone(in_child, stack + LEN, SIGCHLD, at), 33);
    ends_with(clone(in_child, stack + LEN, SIGCHLD | CLONE_VM | CLONE_VFORK, at), 33);
    REFUSED(clone(in_child, stack + LEN, CLONE_SIGHAND, at), EINVAL);
    REFUSED(clone(NULL, stack + LEN, SIGCHLD, at), EINVAL);
    if ((pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)) == 0)
        _exit(in_child(at));
    ends_with(pid, 33);
    REFUSED(syscall(-7), ENOSYS);
    CHECK(posix_spawn(&pid, "/bin/sh", NULL, NULL, words, environ) == 0);
    ends_with(pid, 33);
    CHECK(posix_spawnp(&pid, "sh", NULL, NULL, words, environ) == 0);
    ends_with(pid, 33);
    CHECK(posix_spawn(&pid, "/nonexistent", NULL, NULL, words, environ) == ENOENT);
    CHECK(WEXITSTATUS(system("exit 33")) == 33 && system(NULL) != 0);
    FILE *file = popen("echo out", "r");
    CHECK(file && fgets(line, sizeof line, file) && strcmp(line, "out\n") == 0 && pclose(file) == 0);
    CHECK(popen("true", "x") == NULL && errno == EINVAL);
    CHECK(munmap(at, LEN) == 0 && munmap(stack, LEN) == 0);
}

/* execl execle execlp execv execve execveat execvp execvpe fexecve */
static void start(int way) {
    char *words[] = {"sh", "-c", "exit ${STATUS:-34}", NULL}, *environment[] = {"STATUS=35", "PATH=/bin:/usr/bin", NULL};
    switch (way) {
    case 0:
        execl("/bin/sh", "sh", "-c", words[2], NULL);
        break;
    case 1:
        execle("/bin/sh", "sh", "-c", words[2], NULL, environment);
        break;
    case 2:
        execlp("sh", "sh", "-c", words[2], NULL);
        break;
    case 3:
        execv("/bin/sh", words);
        break;
    case 4:
        execve("/bin/sh", words, environment);
        break;
    case 5:
        execveat(AT_FDCWD, "/bin/sh", words, environment, 0);
        break;
    case 6:
        execvp("sh", words);
        break;
    case 7:
        execvpe("sh", words, environment);
        break;
    case 8:
        fexecve(open("/bin/sh", O_RDONLY), words, environment);
        break;
    case 9:
        execvp("nonexistent-name", words);
        _exit(errno == ENOENT ? 34 : 1);
    case 10:
        execve("/", words, environment);
        _exit(errno == EACCES ? 34 : 1);
    }
    _exit(1);
}

static void of_exec(void) {
    static const int statuses[] = {34, 35, 34, 34, 35, 35, 34, 35, 35, 34, 34};
    unsetenv("STATUS");
    for (int way = 0; way < 11; way++) {
        pid_t pid = fork();
        if (pid == 0)
            start(way);
        ends_with(pid, statuses[way]);
    }
}

static void *answer(void *given) {
    char here = 5;
    return here == 5 ? given : NULL;
}

static int answer_number(void *given) {
    return *(int *)given;
}

/* sched_getaffinity sched_setaffinity pthread_getaffinity_np pthread_setaffinity_np pthread_getattr_np */
static void of_processors(void) {
    cpu_set_t set, again;
    pthread_attr_t attributes;
    memset(&set, 0xff, sizeof set);
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0 && CPU_COUNT(&set) < CPU_SETSIZE);
    CHECK(sched_setaffinity(gettid(), sizeof set, &set) == 0);
    REFUSED(sched_getaffinity(0, 1, &again), EINVAL);
    REFUSED(sched_getaffinity(-1, sizeof again, &again), ESRCH);
    REFUSED(sched_getaffinity(0, sizeof again, (cpu_set_t *)8), EFAULT);
    CPU_ZERO(&again);
    REFUSED(sched_setaffinity(0, sizeof again, &again), EINVAL);
    REFUSED(syscall(SYS_sched_setaffinity, 0, sizeof again, 8), EFAULT);
    CHECK(pthread_setaffinity_np(pthread_self(), sizeof again, &again) == EINVAL);
    CHECK(pthread_getaffinity_np(pthread_self(), 1, &again) == EINVAL);
    CHECK(pthread_getaffinity_np(pthread_self(), sizeof again, &again) == 0 && CPU_EQUAL(&set, &again));
    CHECK(pthread_setaffinity_np(pthread_self(), sizeof again, &again) == 0);
    memset(&again, 0, sizeof again);
    CHECK(syscall(SYS_sched_getaffinity, getpid(), sizeof again, &again) > 0 && CPU_EQUAL(&set, &again));
    CHECK(pthread_getattr_np(pthread_self(), &attributes) == 0);
    CHECK(pthread_attr_getaffinity_np(&attributes, sizeof again, &again) == 0 && CPU_EQUAL(&set, &again));
    CHECK(pthread_attr_destroy(&attributes) == 0);
}

/* pthread_create pthread_mutex_init pthread_mutex_destroy thrd_create */
static void of_threads(void) {
    char *stack = fresh();
    pthread_attr_t attributes;
    pthread_mutexattr_t kind;
    pthread_mutex_t *mutex = (pthread_mutex_t *)fresh();
    pthread_t thread;
    void *result = NULL;
    CHECK(pthread_create(&thread, NULL, answer, mutex) == 0 && pthread_join(thread, &result) == 0 && result == mutex);
    thrd_t other;
    int number = 0;
    CHECK(thrd_create(&other, answer_number, &(int){44}) == thrd_success && thrd_join(other, &number) == thrd_success);
    CHECK(number == 44 && pthread_attr_init(&attributes) == 0);
    char *large = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(large != MAP_FAILED && pthread_attr_setstack(&attributes, large, 64 * PAGE) == 0);
    CHECK(pthread_create(&thread, &attributes, answer, stack) == 0 && pthread_join(thread, &result) == 0 && result == stack);
    CHECK(pthread_mutexattr_init(&kind) == 0 && pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST) == 0);
    CHECK(pthread_mutex_init(mutex, &kind) == 0 && pthread_mutex_lock(mutex) == 0);
    CHECK(pthread_mutex_unlock(mutex) == 0 && pthread_mutex_destroy(mutex) == 0);
    CHECK(pthread_mutex_init(mutex, NULL) == 0 && pthread_mutex_lock(mutex) == 0 && pthread_mutex_destroy(mutex) == EBUSY);
    CHECK(pthread_mutex_unlock(mutex) == 0 && pthread_mutex_destroy(mutex) == 0);
    CHECK(munmap(large, 64 * PAGE) == 0 && munmap(stack, LEN) == 0 && munmap(mutex, LEN) == 0);
}

/* A second libc: its malloc, its mappings and its children work beside the first's. */
static void of_namespaces(void) {
    void *second = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW);
    CHECK(second != NULL && dlmopen(LM_ID_BASE, "libc.so.6", RTLD_NOW) != NULL);
    void *(*allocate)(size_t) = (void *(*)(size_t))dlsym(second, "malloc");
    void (*release)(void *) = (void (*)(void *))dlsym(second, "free");
    pid_t (*make_child)(void) = (pid_t(*)(void))dlsym(second, "fork");
    for (size_t size = 1000; size <= 10000000; size *= 10) {
        char *block = allocate(size);
        CHECK(block != NULL);
        memset(block, 7, size);
        int status;
        pid_t child = make_child();
        if (child == 0)
            _exit(block[0] == 7 && block[size - 1] == 7 ? 0 : 1);
        CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
        release(block);
    }
}

int main(void) {
    of_memory();
    of_namespaces();
    of_process();
    of_rights();
    of_limits();
    of_signals();
    of_children();
    of_exec();
    of_threads();
    of_processors();
    puts("symbols ok");
    return 0;
}
