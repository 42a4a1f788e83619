/* Where memory is put, and how much of it may be had. The first argument says which part. */
#include "case.h"
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>

#define GIB (1024UL * MIB)
#define TIB (1024UL * GIB)
enum { NEW = MAP_PRIVATE | MAP_ANONYMOUS, RW = PROT_READ | PROT_WRITE };

static const char *placed(const char *at, const char *hint) {
    return at == MAP_FAILED ? strerror(errno) : at == hint ? "there" : "elsewhere";
}

static void hints(void) {
    /* As a JIT does: memory from which code can jump into the program and back. */
    char *here = (char *)((uintptr_t)&hints & ~0xffffUL);
    int near = 0;
    for (long step = 64; step < 96 && !near; step += 4) {
        char *code = mmap(here - step * (long)MIB, 64 * KIB, RW, NEW, -1, 0);
        near = labs(code - here) < (1L << 31);
        if (!near)
            munmap(code, 64 * KIB);
    }
    printf("near code: %d\n", near);
    /* Addresses that were the program's and are free again. */
    char *at = map_memory(64 * PAGE);
    munmap(at, 64 * PAGE);
    printf("hint where nothing is: %s\n", placed(mmap(at + 8 * PAGE, 4 * PAGE, RW, NEW, -1, 0), at + 8 * PAGE));
    printf("not at a page: %s\n", placed(mmap(at + 2 * PAGE + 5, PAGE, RW, NEW, -1, 0), at + 2 * PAGE));
    printf("hint where something is: %s\n", placed(mmap(at + 8 * PAGE, PAGE, RW, NEW, -1, 0), at + 8 * PAGE));
    int shared = MAP_SHARED | MAP_ANONYMOUS;
    printf("shared: %s\n", placed(mmap(at + 20 * PAGE, PAGE, RW, shared, -1, 0), at + 20 * PAGE));
    memset(at + 20 * PAGE, 1, PAGE);
    int free_only = NEW | MAP_FIXED_NOREPLACE;
    printf("no replacing, free: %s\n", placed(mmap(at + 30 * PAGE, 2 * PAGE, RW, free_only, -1, 0), at + 30 * PAGE));
    printf("no replacing, taken: %s\n", placed(mmap(at + 29 * PAGE, 2 * PAGE, RW, free_only, -1, 0), at + 29 * PAGE));
    printf("no replacing, shared there: %s\n", placed(mmap(at + 19 * PAGE, 2 * PAGE, RW, free_only, -1, 0), at + 19 * PAGE));
    free_only = shared | MAP_FIXED_NOREPLACE;
    printf("shared, free: %s\n", placed(mmap(at + 40 * PAGE, PAGE, RW, free_only, -1, 0), at + 40 * PAGE));
    printf("shared, taken: %s\n", placed(mmap(at + 40 * PAGE, PAGE, RW, free_only, -1, 0), at + 40 * PAGE));
    printf("unmapped: %d\n", munmap(at, 64 * PAGE));
    printf("free again: %s\n", placed(mmap(at, 64 * PAGE, RW, NEW | MAP_FIXED_NOREPLACE, -1, 0), at));
    char *low = mmap(NULL, PAGE, RW, NEW | MAP_32BIT, -1, 0);
    printf("below 4 GiB: %d\n", low != MAP_FAILED && (uintptr_t)low < 4 * GIB);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void reservations(void) {
    int count = 0, all = 0;
    char *some[400];
    while (count < 400 && (some[count] = mmap(NULL, 100 * GIB, PROT_NONE, NEW | MAP_NORESERVE, -1, 0)) != MAP_FAILED)
        count++;
    printf("%d reservations of 100 GiB\n", count);
    for (int i = 0; i < count; i++)
        all += mprotect(some[i] + GIB, MIB, RW) == 0 && (memset(some[i] + GIB, i | 1, PAGE), some[i][GIB] == (char)(i | 1));
    printf("%d used\n", all);
    double begun = now();
    pid_t child = fork();
    if (child == 0)
        _exit(some[7][GIB] == 7);
    int status;
    waitpid(child, &status, 0);
    printf("a child sees it: %d\n", WEXITSTATUS(status));
    char *shadow = mmap(NULL, 20 * TIB, RW, NEW | MAP_NORESERVE, -1, 0);
    printf("a shadow of 20 TiB: %s\n", shadow == MAP_FAILED ? strerror(errno) : "had");
    if (shadow != MAP_FAILED) {
        shadow[19 * TIB] = 1;
        printf("%d", shadow[19 * TIB]);
        printf(", unmapped: %d\n", munmap(shadow, 20 * TIB));
    }
    for (int i = 0; i < count; i++)
        all -= munmap(some[i], 100 * GIB) == 0;
    printf("%d left, in time: %d\n", all, now() - begun < 20);
    char *ten = mmap(NULL, 10 * TIB, PROT_NONE, NEW | MAP_NORESERVE, -1, 0);
    printf("10 TiB: %d %d\n", ten != MAP_FAILED, mprotect(ten + 5 * TIB, 2 * TIB, RW));
    ten[6 * TIB] = 3;
    ten = mremap(ten, 10 * TIB, 11 * TIB, MREMAP_MAYMOVE);
    printf("grown: %s\n", ten == MAP_FAILED ? strerror(errno) : "yes");
}

static void say(const char *what, void *answer) {
    printf("%s: %s\n", what, answer == MAP_FAILED ? strerror(errno) : "given");
    errno = 0;
}

static void commitments(void) {
    struct sysinfo info;
    sysinfo(&info);
    unsigned long much = (info.totalram + info.totalswap) * info.mem_unit + GIB, half = much / 2 / GIB * GIB;
    say("more than there is", mmap(NULL, much, RW, NEW, -1, 0));
    say("by malloc", malloc(much) == NULL ? MAP_FAILED : NULL);
    say("by calloc", calloc(much / 8, 8) == NULL ? MAP_FAILED : NULL);
    say("without reserve", mmap(NULL, much, RW, NEW | MAP_NORESERVE, -1, 0));
    say("read-only", mmap(NULL, much, PROT_READ, NEW, -1, 0));
    char *none = mmap(NULL, much, PROT_NONE, NEW, -1, 0);
    say("without access", none);
    say("made writable", mprotect(none, much, RW) ? MAP_FAILED : NULL);
    say("half made writable", mprotect(none, half, RW) ? MAP_FAILED : NULL);
    char *free_of_it = mmap(NULL, much, PROT_NONE, NEW | MAP_NORESERVE, -1, 0);
    say("without access and reserve, made writable", mprotect(free_of_it, much, RW) ? MAP_FAILED : NULL);
    say("half", mmap(NULL, half, RW, NEW, -1, 0));
    char *small = map_memory(PAGE);
    say("grown beyond", mremap(small, PAGE, much, MREMAP_MAYMOVE));
    say("grown to half", mremap(small, PAGE, half, MREMAP_MAYMOVE));
}

static void growing(void) {
    for (int i = 0; i < 3; i++) {
        char *at = mmap(NULL, 16 * PAGE, RW, NEW | MAP_GROWSDOWN, -1, 0);
        if (at == MAP_FAILED)
            fail("mmap");
        memset(at, 3, 16 * PAGE);
        press(32 * MIB);
        for (long page = 1; page <= 40; page++)
            at[-page * (long)PAGE] = page;
        printf("grew: %d %d %d\n", at[-40 * (long)PAGE], at[-(long)PAGE], at[15 * PAGE]);
    }
}

int main(int count, char **args) {
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {{"hints", hints}, {"reservations", reservations}, {"commitments", commitments}, {"growing", growing}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (count > 1 && strcmp(args[1], parts[i].name) == 0)
            parts[i].run();
    return 0;
}
