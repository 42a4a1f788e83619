/* limits WHAT as|data [MIB]: limits on address space and on data, as a program sets them and meets them. What it prints
 * may not depend on how much the program is above its limit to begin with, so amounts are told in parts of the limit,
 * rounded. */
#include "case.h"

#include <fcntl.h>
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

/* The ways to become another program; VFORKED of them may be gone after vfork. */
enum { EXECVE, EXECV, EXECVP, EXECVPE, EXECVEAT, FEXECVE, BY_NUMBER, AT_BY_NUMBER, VFORKED, EXECL = VFORKED, EXECLP, EXECLE, WAYS };

static char script[] = "ulimit -v; ulimit -Hv; ulimit -d; ulimit -Hd; echo $GIVEN";

/* Becomes a shell, by way of its path, its name, or its descriptor; with `given` for those that take an environment. */
static int become(int way, const char *path, const char *name, int fd, char **given) {
    char *const args[] = {"sh", "-c", script, NULL};
    switch (way) {
    case EXECVE: return execve(path, args, given);
    case EXECV: return execv(path, args);
    case EXECVP: return execvp(name, args);
    case EXECVPE: return execvpe(name, args, given);
    case EXECVEAT: return execveat(AT_FDCWD, path, args, given, 0);
    case FEXECVE: return fexecve(fd, args, given);
    case BY_NUMBER: return syscall(SYS_execve, path, args, given);
    case AT_BY_NUMBER: return syscall(SYS_execveat, fd, "", args, given, AT_EMPTY_PATH);
    case EXECL: return execl(path, "sh", "-c", script, (char *)NULL);
    case EXECLP: return execlp(name, "sh", "-c", script, (char *)NULL);
    default: return execle(path, "sh", "-c", script, (char *)NULL, given);
    }
}

static void end_of(const char *what, int way, pid_t pid) {
    int status = -1;
    waitpid(pid, &status, 0);
    printf("%s, way %d: %d\n", what, way, status);
    fflush(stdout);
}

/* Whatever comes after exec has the limits: by each of the ways. Where there is no such program, they are as before. */
static void pass_on(void) {
    struct rlimit limit = {bound, 2 * bound};
    if (setrlimit(resource, &limit) != 0)
        fail("setrlimit");
    size_t words = 0;
    while (environ[words] != NULL)
        words++;
    char *given[words + 2];
    given[0] = "GIVEN=yes";
    memcpy(given + 1, environ, (words + 1) * sizeof *environ);
    int fd = open("/bin/sh", O_RDONLY | O_CLOEXEC);
    for (int way = 0; way < WAYS; way++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(become(way, "/bin/sh", "sh", fd, given) != 0);
        end_of("fork", way, pid);
    }
    for (int way = 0; way < VFORKED; way++) {
        pid_t pid = vfork();
        if (pid == 0)
            _exit(become(way, "/bin/sh", "sh", fd, given) != 0);
        end_of("vfork", way, pid);
    }
    char *const args[] = {"sh", "-c", script, NULL};
    pid_t pid;
    for (int way = 0; way < 2; way++) {
        int error = way ? posix_spawnp(&pid, "sh", NULL, NULL, args, given)
                        : posix_spawn(&pid, "/bin/sh", NULL, NULL, args, given);
        if (error != 0)
            fail("posix_spawn");
        end_of("spawn", way, pid);
    }
    printf("system %d\n", system(script));
    fflush(stdout);
    char line[64];
    FILE *from = popen(script, "r");
    while (from != NULL && fgets(line, sizeof line, from) != NULL)
        printf("popen %s", line);
    printf("pclose %d\n", pclose(from));
    for (int way = 0; way < WAYS; way++) {
        int answer = become(way, "/nonexistent/sh", "no-such-shell", -1, given);
        printf("no such program, way %d: %d, %s\n", way, answer, strerror(errno));
        getrlimit(resource, &limit);
        show("limit", &limit);
        void *more = mmap(NULL, bound + 16 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        printf("more than the limit: %s\n", more == MAP_FAILED ? strerror(errno) : "mapped");
    }
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
