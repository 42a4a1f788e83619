/* Memory that only libc's own text asks for: allocated by libraries that no symbol of another one reaches, and by libc for
 * itself. What is mapped so is filled, left to be moved out, and read again; children see it whole. */
#include "case.h"
#include <dlfcn.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

#define BYTES ((size_t)40 << 20)

static void fill(uint64_t *words, uint64_t seed) {
    for (size_t i = 0; i < BYTES / 8; i += PAGE / 8)
        words[i] = seed + i;
}

static size_t wrong(const uint64_t *words, uint64_t seed) {
    size_t count = 0;
    for (size_t i = 0; i < BYTES / 8; i += PAGE / 8)
        count += words[i] != seed + i;
    return count;
}

/* The break: what it grows by is zero, also where it was before; a child has it, and moves its own. */
static void move_break(void) {
    /* Nothing of malloc's may lie above it. */
    static char buffer[4096];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    char *start = sbrk(0);
    uint64_t *words = sbrk(BYTES);
    size_t old = 0, others;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < BYTES / 8; i += PAGE / 8)
            old += words[i] != 0;
        fill(words, round);
        pid_t child = fork();
        if (child == 0) {
            size_t bad = wrong(words, round);
            char *more = sbrk(PAGE);
            bad += more != start + BYTES || *more != 0;
            _exit(bad != 0);
        }
        int status = -1;
        waitpid(child, &status, 0);
        others = wrong(words, round);
        printf("break: %zu words wrong, child %d\n", others, status);
        fflush(stdout);
        if (sbrk(-(intptr_t)BYTES) != start + BYTES || sbrk(0) != start || sbrk(BYTES) != start)
            printf("the break is not where it was\n");
    }
    printf("%zu words were not zero, %d\n", old, brk(start - PAGE * 1000000) == 0 || sbrk((intptr_t)1 << 46) != (void *)-1);
}

typedef void *(*mapper)(void *, size_t, int, int, int, off_t);
typedef int (*unmapper)(void *, size_t);
typedef pid_t (*forker)(void);

static void *function(void *library, const char *prefix, const char *name) {
    char whole[64];
    snprintf(whole, sizeof whole, "%s%s", prefix, name);
    void *found = library ? dlsym(library, whole) : NULL;
    if (!found) {
        printf("no %s: %s\n", whole, dlerror());
        exit(1);
    }
    return found;
}

/* By the functions of a library, whichever namespace it is in. */
static void use(const char *name, void *library, const char *prefix) {
    mapper map = (mapper)function(library, prefix, "mmap");
    unmapper unmap = (unmapper)function(library, prefix, "munmap");
    forker make_child = (forker)function(library, prefix, "fork");
    uint64_t *a = map(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t *b = map(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fill(a, 1);
    fill(b, 2);
    pid_t child = make_child();
    if (child == 0)
        _exit(wrong(a, 1) + wrong(b, 2) != 0);
    int status = -1;
    waitpid(child, &status, 0);
    printf("%s: %zu and %zu words wrong, child %d\n", name, wrong(a, 1), wrong(b, 2), status);
    fflush(stdout);
    unmap(a, BYTES);
    unmap(b, BYTES);
}

int main(int argc, char **argv) {
    const char *kind = argc > 1 ? argv[1] : "";
    if (!strcmp(kind, "own")) {
        use("own", dlopen("libc.so.6", RTLD_NOW), "");
    } else if (!strcmp(kind, "break")) {
        move_break();
    } else if (!strcmp(kind, "second")) {
        use("second", dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW), "");
    } else if (!strcmp(kind, "again")) {
        /* One that was unloaded leaves its place to the next. */
        for (int i = 0; i < 4; i++) {
            void *libc = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW);
            use("again", libc, "");
            dlclose(libc);
        }
    } else if (!strcmp(kind, "deep")) {
        /* argv[2]: a library that finds its own libraries first. */
        use("deep", dlopen(argv[2], RTLD_NOW | RTLD_DEEPBIND), "deep_");
    } else if (!strcmp(kind, "no-writes")) {
        /* The next program may not make memory executable that it could write. */
        if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0))
            printf("no PR_SET_MDWE here\n");
        execvp(argv[2], argv + 2);
        perror(argv[2]);
    } else
        return 2;
    return 0;
}
