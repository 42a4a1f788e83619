/* Memory that was there a moment ago, or is about to be: unmapped, beyond the break, reserved without rights. Whoever touches it, the
   program or a system call, meets what there is natively, however often such memory came and went before. */
#include "case.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>

#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS)
#define RESERVED 256UL /* Pages. */

static sigjmp_buf before;
static char *volatile expected;
static int ends[2];

static void told(int number, siginfo_t *info, void *context) {
    const ucontext_t *machine = context;
    printf("  signal %d code %d at %+ld, error %lld\n", number, info->si_code, (long)((char *)info->si_addr - expected),
           (long long)machine->uc_mcontext.gregs[REG_ERR]);
    siglongjmp(before, 1);
}

static void *reserve(void) {
    void *at = mmap(NULL, RESERVED * PAGE, PROT_NONE, PRIVATE | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        fail("mmap");
    return at;
}

/* Memory comes and goes so often that whatever is learnt of touches is forgotten. */
static void calm(void) {
    for (int i = 0; i < 300; i++)
        munmap(map_memory(4 * PAGE), 4 * PAGE);
}

static void say(const char *what, long answer) {
    printf("  %s: %ld, %s\n", what, answer, answer < 0 ? strerror(errno) : "no error");
}

/* One kind of touch: 0 a read, 1 a write, then system calls. */
static void touch(char *at, int kind) {
    struct iovec own = {.iov_base = at, .iov_len = 8};
    char bytes[8] = {0};
    struct iovec other = {.iov_base = bytes, .iov_len = 8};
    expected = at;
    switch (kind) {
    case 0:
    case 1:
        if (sigsetjmp(before, 1) == 0) {
            if (kind == 0)
                (void)*(volatile char *)at;
            else
                *(volatile char *)at = 1;
            printf("  no signal\n");
        }
        break;
    case 2: say("write", write(ends[1], at, 8)); break;
    case 3: say("getrandom", getrandom(at, 8, 0)); break;
    case 4: say("process_vm_readv", process_vm_readv(getpid(), &other, 1, &own, 1, 0)); break;
    case 5: say("madvise populate", madvise(at, PAGE, MADV_POPULATE_WRITE)); break;
    case 6: say("mlock", mlock(at, PAGE)); break;
    }
}
#define KINDS 7

static void unmapped(int kind) {
    char *at = map_memory(32 * PAGE);
    if (kind % 2)
        write_contents(at, 32 * PAGE, 1);
    munmap(at + 8 * PAGE, 8 * PAGE);
    touch(at + 9 * PAGE + 100, 0);
    calm();
    munmap(at, 8 * PAGE);
    munmap(at + 16 * PAGE, 16 * PAGE);
    char *page = at + 20 * PAGE;
    touch(page, kind);
    touch(page, 1);
}

static void beyond_the_break(int kind) {
    char *end = sbrk(0);
    sbrk(64 * PAGE);
    write_contents(end, 64 * PAGE, 2);
    printf("  %zu are wrong\n", wrong_words(end, 64 * PAGE, 2));
    char *page = (char *)(((unsigned long)end + 80 * PAGE) & -PAGE);
    touch(page, kind);
    sbrk(-32 * (long)PAGE);
    page = (char *)(((unsigned long)end + 40 * PAGE) & -PAGE);
    touch(page, 1);
    calm();
    sbrk(32 * PAGE);
    size_t dirty = 0;
    for (size_t i = 33 * PAGE; i < 64 * PAGE; i++)
        dirty += end[i] != 0;
    sbrk(-64 * (long)PAGE);
    printf("  %zu bytes are no zeroes, the break is where it was: %d\n", dirty, sbrk(0) == (void *)end);
    touch((char *)(((unsigned long)end + PAGE) & -PAGE), kind);
}

static void reserved(int kind) {
    char *at = reserve();
    for (size_t page = 0; page < 20; page++) {
        mprotect(at + page * PAGE, PAGE, PROT_READ | PROT_WRITE);
        write_contents(at + page * PAGE, PAGE, page);
    }
    touch(at + 20 * PAGE, kind);
    touch(at + 24 * PAGE, 1);
    munlock(at + 20 * PAGE, PAGE);
    calm();
    for (size_t page = 20; page < 30; page++) {
        mprotect(at + page * PAGE, PAGE, PROT_READ | PROT_WRITE);
        write_contents(at + page * PAGE, PAGE, page);
    }
    /* What is next has other rights, then is read-only, then something else altogether. */
    mprotect(at + 31 * PAGE, PAGE, PROT_READ);
    touch(at + 30 * PAGE, kind);
    touch(at + 31 * PAGE, 1);
    touch(at + 31 * PAGE, 0);
    mprotect(at + 30 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE);
    mprotect(at + 29 * PAGE, PAGE, PROT_NONE);
    touch(at + 29 * PAGE, kind);
    mprotect(at + 29 * PAGE, PAGE, PROT_READ | PROT_WRITE);
    size_t wrong = 0;
    for (size_t page = 0; page < 30; page++)
        wrong += wrong_words(at + page * PAGE, PAGE, page);
    printf("  %zu are wrong\n", wrong);
    munmap(at, RESERVED * PAGE);
    touch(at + 35 * PAGE, kind);
}

static void moved(int kind) {
    char *at = reserve();
    mprotect(at, PAGE, PROT_READ | PROT_WRITE);
    write_contents(at, PAGE, 3);
    char *to = mremap(at + PAGE, 100 * PAGE, 200 * PAGE, MREMAP_MAYMOVE);
    if (to == MAP_FAILED)
        fail("mremap");
    touch(to + PAGE, kind);
    touch(to + 150 * PAGE, 1);
    mprotect(at, PAGE, PROT_READ);
    printf("  %zu are wrong\n", wrong_words(at, PAGE, 3));
    munmap(to, 200 * PAGE);
    munmap(at, RESERVED * PAGE);
}

static void replaced(int kind) {
    char *at = reserve();
    mprotect(at, PAGE, PROT_READ | PROT_WRITE);
    int file = open("/proc/self/exe", O_RDONLY);
    if (mmap(at + 2 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, 0) == MAP_FAILED)
        fail("mmap");
    close(file);
    touch(at + PAGE, kind);
    printf("  a file: %.3s\n", at + 2 * PAGE + 1);
    touch(at + 3 * PAGE, 1);
    munmap(at + 2 * PAGE, PAGE);
    touch(at + 2 * PAGE, 1);
    mprotect(at + PAGE, PAGE, PROT_READ | PROT_WRITE);
    at[PAGE] = 1;
    munmap(at, RESERVED * PAGE);
}

static void forked(int kind) {
    char *at = reserve(), *gone = map_memory(16 * PAGE);
    write_contents(gone, 16 * PAGE, 4);
    mprotect(at, PAGE, PROT_READ | PROT_WRITE);
    munmap(gone, 16 * PAGE);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        touch(at + PAGE, kind);
        touch(gone, kind);
        calm();
        for (size_t page = 1; page < 20; page++)
            if (mprotect(at + page * PAGE, PAGE, PROT_READ | PROT_WRITE) || at[page * PAGE]++ != 0)
                printf("  page %zu is wrong\n", page);
        touch(at + 20 * PAGE, 1);
        fflush(stdout);
        _exit(7);
    }
    int status;
    waitpid(child, &status, 0);
    printf("  status %x\n", status);
    touch(at + PAGE, kind);
    touch(gone, 1);
    munmap(at, RESERVED * PAGE);
}

/* Heaps that grow page by page, as malloc's do, in several threads; a system call looks at what they don't have yet. */
#define THREADS 4
static volatile size_t faults[THREADS];

static void *grow(void *number) {
    size_t me = (size_t)number;
    for (uint64_t round = 0; round < 20; round++) {
        char *at = reserve();
        for (size_t page = 0; page < RESERVED; page++) {
            char *new = at + page * PAGE;
            if (page % 61 == 60 && write(ends[1], new, 1) == -1 && errno == EFAULT)
                faults[me]++;
            if (mprotect(new, PAGE, PROT_READ | PROT_WRITE) != 0)
                fail("mprotect");
            for (size_t i = 0; i < PAGE; i += 8)
                if (*(uint64_t *)(new + i) != 0)
                    _exit(97);
            write_contents(new, PAGE, me * 1000 + round + page);
        }
        for (size_t page = 0; page < RESERVED; page++)
            if (wrong_words(at + page * PAGE, PAGE, me * 1000 + round + page) != 0)
                _exit(96);
        /* In pieces, of which some come back elsewhere. */
        munmap(at + 16 * PAGE, 16 * PAGE);
        free(malloc(200 * KIB));
        munmap(at, 16 * PAGE);
        munmap(at + 32 * PAGE, (RESERVED - 32) * PAGE);
    }
    return NULL;
}

static void in_threads(void) {
    pthread_t threads[THREADS];
    size_t all = 0;
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, grow, (void *)i);
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        all += faults[i];
    }
    printf("%zu of %d calls met nothing\n", all, THREADS * 20 * 4);
}

int main(void) {
    static const struct {
        const char *name;
        void (*run)(int kind);
    } parts[] = {{"unmapped", unmapped}, {"beyond the break", beyond_the_break}, {"reserved", reserved},
                 {"moved", moved}, {"replaced", replaced}, {"forked", forked}};
    struct sigaction action = {.sa_sigaction = told, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    if (pipe(ends) != 0 || fcntl(ends[1], F_SETPIPE_SZ, 1 << 20) < 0)
        fail("pipe");
    for (size_t part = 0; part < sizeof parts / sizeof *parts; part++)
        for (int kind = 0; kind < KINDS; kind++) {
            printf("%s, %d\n", parts[part].name, kind);
            calm();
            parts[part].run(kind);
        }
    in_threads();
    return 0;
}
