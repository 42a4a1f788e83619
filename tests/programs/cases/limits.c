/* limits WHAT as|data [MIB]: limits on address space and on data, as a program sets them and meets them. What it prints
 * may not depend on how much the program is above its limit to begin with, so amounts are told in parts of the limit,
 * rounded. */
#include "case.h"

#include <pthread.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

static rlim_t bound = 512 * MIB; /* the limit */

static int resource = RLIMIT_AS;

static void show(const char *what, const struct rlimit *limit) {
    printf("%s: %lld %lld\n", what, (long long)limit->rlim_cur, (long long)limit->rlim_max);
}

static void set_limit(rlim_t bytes) {
    struct rlimit limit = {bytes, bytes};
    if (setrlimit(resource, &limit) != 0)
        fail("setrlimit");
}

/* How many eighths of the limit a number of bytes is, if it is as much as can be hoped for: "most" from half on. */
static void tell(const char *what, size_t bytes) {
    printf("%s: %s\n", what, bytes > bound ? "more than the limit" : bytes > bound / 2 ? "most of it" : "too little");
}

/* Maps, or allocates, pieces until there are no more, and gives all back. */
static size_t fill(size_t piece, bool touch, bool by_malloc) {
    static void *pieces[1 << 16];
    size_t count = 0;
    while (count < sizeof pieces / sizeof *pieces && count * piece <= 2 * bound) {
        void *at = by_malloc ? malloc(piece)
                             : mmap(NULL, piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == (by_malloc ? NULL : MAP_FAILED)) {
            if (errno != ENOMEM)
                fail("not ENOMEM");
            break;
        }
        if (touch)
            write_contents(at, piece & ~7UL, count);
        pieces[count++] = at;
    }
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++) {
        if (touch)
            wrong += wrong_words(pieces[i], piece & ~7UL, i);
        if (by_malloc)
            free(pieces[i]);
        else
            munmap(pieces[i], piece);
    }
    if (wrong != 0)
        printf("%zu words are wrong\n", wrong);
    return count * piece;
}

static void meet(void) {
    set_limit(bound);
    tell("mapped", fill(16 * MIB, false, false));
    tell("mapped and touched", fill(8 * MIB, true, false));
    tell("blocks of 100 KiB", fill(100 * KIB, true, true));
    tell("blocks of 2 MiB", fill(2 * MIB, true, true));
    tell("blocks of 20 MiB", fill(20 * MIB, true, true));
    tell("blocks of 40 MiB, untouched", fill(40 * MIB, false, true));
    tell("mapped and touched again", fill(8 * MIB, true, false));
}

static void read_back(void) {
    struct rlimit limit, old;
    getrlimit(resource, &limit);
    show("before", &limit);
    limit = (struct rlimit){bound, 2 * bound};
    printf("prlimit %d\n", prlimit(0, resource, &limit, &old));
    show("old", &old);
    printf("by number %ld\n", syscall(SYS_getrlimit, resource, &limit));
    show("now", &limit);
    limit = (struct rlimit){2 * bound, bound};
    int refused = setrlimit(resource, &limit);
    printf("soft above hard %d %s\n", refused, strerror(errno));
    limit = (struct rlimit){bound / 2, bound};
    printf("by number %ld\n", syscall(SYS_prlimit64, getpid(), resource, &limit, &old));
    show("old", &old);
    printf("mapping more %s\n", mmap(NULL, bound, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
                                    ? strerror(errno) : "works");
    limit = (struct rlimit){RLIM_INFINITY, RLIM_INFINITY};
    printf("taken off %d\n", setrlimit(resource, &limit));
    printf("mapping more %s\n", mmap(NULL, bound, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
                                    ? strerror(errno) : "works");
}

/* Each call that takes more addresses, or makes data of them, beyond the limit and within it. */
static void calls(void) {
    char *small = map_memory(MIB), *reserve = mmap(NULL, bound, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    set_limit(bound);
    printf("mremap beyond %s\n", mremap(small, MIB, 2 * bound, MREMAP_MAYMOVE) == MAP_FAILED ? strerror(errno) : "works");
    small = mremap(small, MIB, 2 * MIB, MREMAP_MAYMOVE);
    printf("mremap %s\n", small == MAP_FAILED ? strerror(errno) : "works");
    printf("fixed %s\n", mmap(reserve, 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
                             == reserve ? "works" : strerror(errno));
    printf("shared beyond %s\n", mmap(NULL, bound, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
                                     ? strerror(errno) : "works");
    printf("sbrk beyond %s\n", sbrk(bound) == (void *)-1 ? strerror(errno) : "works");
    printf("mprotect of all %s\n", mprotect(reserve, bound, PROT_READ | PROT_WRITE) ? strerror(errno) : "works");
}

static void *thread(void *unused) {
    (void)unused;
    char *at = map_memory(4 * MIB);
    write_contents(at, 4 * MIB, 5);
    size_t wrong = wrong_words(at, 4 * MIB, 5);
    munmap(at, 4 * MIB);
    return (void *)wrong;
}

/* Children by fork, and threads, of a process that is near its limit. */
static void children(void) {
    char *at = map_memory(bound / 4);
    write_contents(at, bound / 4, 9);
    set_limit(bound);
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            size_t wrong = wrong_words(at, bound / 4, 9);
            tell("in the child", fill(8 * MIB, true, false) + bound / 4);
            fflush(stdout);
            _exit(wrong != 0);
        }
        int status = -1;
        waitpid(pid, &status, 0);
        printf("child %d\n", status);
        fflush(stdout);
        pthread_t id;
        if (pthread_create(&id, NULL, thread, NULL) != 0)
            fail("pthread_create");
        void *wrong;
        pthread_join(id, &wrong);
        printf("thread %zu\n", (size_t)wrong);
        fflush(stdout);
    }
}

/* Whatever comes after exec has the limit: by each of the ways. */
static void pass_on(void) {
    set_limit(bound);
    char *const args[] = {"sh", "-c", "ulimit -v; ulimit -d", NULL};
    for (int way = 0; way < 6; way++) {
        printf("way %d\n", way);
        fflush(stdout);
        pid_t pid = way < 4 ? fork() : 0;
        if (way < 4 && pid == 0) {
            if (way == 0)
                execve("/bin/sh", args, environ);
            else if (way == 1)
                execvp("sh", args);
            else if (way == 2)
                execl("/bin/sh", "sh", "-c", "ulimit -v; ulimit -d", (char *)NULL);
            else
                execlp("sh", "sh", "-c", "ulimit -v; ulimit -d", (char *)NULL);
            _exit(127);
        }
        if (way == 4 && posix_spawn(&pid, "/bin/sh", NULL, NULL, args, environ) != 0)
            fail("posix_spawn");
        if (way == 5)
            printf("system %d\n", system("ulimit -v; ulimit -d"));
        else
            waitpid(pid, NULL, 0);
    }
    printf("no such program %d\n", execve("/nonexistent", args, environ));
    tell("afterwards", fill(8 * MIB, true, false));
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    if (count > 2 && strcmp(words[2], "data") == 0)
        resource = RLIMIT_DATA;
    if (count > 3)
        bound = strtoul(words[3], NULL, 10) * MIB;
    if (strcmp(what, "meet") == 0)
        meet();
    else if (strcmp(what, "read") == 0)
        read_back();
    else if (strcmp(what, "calls") == 0)
        calls();
    else if (strcmp(what, "children") == 0)
        children();
    else if (strcmp(what, "pass") == 0)
        pass_on();
    else
        return 2;
    return 0;
}
