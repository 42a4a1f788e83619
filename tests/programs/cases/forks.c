/* forks KIND ROUNDS MIB THREADS: makes children with a copy of the address space in the way that KIND names. Each of them
   looks at all contents of its parent and goes on using memory. THREADS other threads change memory of their own all the
   while, the first of them by replacing blocks that the children look at too. */
#include "case.h"
#include <dlfcn.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern int __clone(int (*)(void *), void *, int, void *, ...);
extern pid_t _Fork(void);

enum { BLOCKS = 12, WIPED = 2 << 20, BLOCK = 2 << 20, HEAD = 64 };

static char *contents, *wiped, *stack_top, *self;
static size_t bytes, least_stack = 1 << 20;
static char *_Atomic blocks[BLOCKS]; /* the seed of each is its first word */
static atomic_int done;
static int threads;
/* Memory that all share: what the children found. */
static struct found {
    atomic_long children, wrong, not_wiped;
} *found;

static size_t wrong_blocks(void) {
    size_t wrong = 0;
    for (int i = 0; threads > 0 && i < BLOCKS; i++) {
        char *block = atomic_load(&blocks[i]);
        wrong += wrong_words(block + HEAD, BLOCK - HEAD, *(uint64_t *)block);
    }
    return wrong;
}

/* What every child does. It must not need a lock that a thread of its parent may have held. */
static int child(void *unused) {
    (void)unused;
    size_t wrong = wrong_words(contents, bytes, 1) + wrong_blocks(), kept = 0, part = bytes / 8;
    for (size_t i = 0; i < WIPED; i += PAGE)
        kept += wiped[i] != 0;
    write_contents(contents, part, 2);
    char *own = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    write_contents(own, 4 * MIB, 3);
    wrong += wrong_words(own, 4 * MIB, 3) + wrong_words(contents, part, 2);
    wrong += madvise(own, 2 * MIB, MADV_DONTNEED) != 0 || own[0] != 0;
    own = mremap(own, 4 * MIB, 8 * MIB, MREMAP_MAYMOVE);
    wrong += own == MAP_FAILED || own[0] != 0 || own[7 * MIB] != 0;
    wrong += wrong_words(own + 2 * MIB, PAGE, 99) == 0 || mprotect(own, PAGE, PROT_READ) != 0 || munmap(own, 8 * MIB) != 0;
    atomic_fetch_add(&found->wrong, (long)wrong);
    atomic_fetch_add(&found->not_wiped, (long)kept);
    atomic_fetch_add(&found->children, 1);
    return 42;
}

static void end_child(void) {
    syscall(SYS_exit_group, child(NULL));
}

/* A stack for syscall(): its child goes on where the word on its top says. */
static char *stack_with_address(void) {
    void (**word)(void) = (void (**)(void))(stack_top - 64);
    *word = end_child;
    return (char *)word;
}

/* A clone that no library sees. */
static pid_t in_assembly(char *stack) {
    long answer;
    register long child_tid __asm__("r10") = 0;
    register void (*then)(void) __asm__("r12") = end_child;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "test %%rsi, %%rsi\n\t"
                     "jz 1f\n\t"
                     "call *%%r12\n\t"
                     "1:"
                     : "=a"(answer)
                     : "a"((long)SYS_clone), "D"((long)SIGCHLD), "S"(stack), "d"(0L), "r"(child_tid), "r"(then)
                     : "rcx", "r11", "r8", "memory");
    return (pid_t)answer;
}

static pid_t by_second_libc(void) {
    static pid_t (*second_fork)(void);
    if (second_fork == NULL) {
        void *libc = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW);
        if (libc == NULL || (second_fork = (pid_t (*)(void))dlsym(libc, "fork")) == NULL)
            fail("a second libc");
    }
    return second_fork();
}

static pid_t by_clone3(int own_stack) {
    struct clone_args args = {.exit_signal = SIGCHLD};
    if (own_stack) {
        args.stack = (uint64_t)(stack_top - least_stack);
        args.stack_size = (uint64_t)stack_with_address() - args.stack;
    }
    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

/* A child, made as `kind` says; -1 if it is not known. */
static pid_t make(const char *kind) {
    pid_t pid = -1;
    if (!strcmp(kind, "fork")) pid = fork();
    if (!strcmp(kind, "_Fork")) pid = _Fork();
    if (!strcmp(kind, "clone")) return clone(child, stack_top, SIGCHLD, NULL);
    if (!strcmp(kind, "__clone")) return __clone(child, stack_top, SIGCHLD, NULL);
    if (!strcmp(kind, "clone-vfork")) return clone(child, stack_top, CLONE_VFORK | SIGCHLD, NULL);
    if (!strcmp(kind, "syscall-clone")) pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (!strcmp(kind, "syscall-clone-stack")) return (pid_t)syscall(SYS_clone, SIGCHLD, stack_with_address(), 0, 0, 0);
    if (!strcmp(kind, "clone3")) pid = by_clone3(0);
    if (!strcmp(kind, "clone3-stack")) return by_clone3(1);
    if (!strcmp(kind, "assembly")) pid = in_assembly(NULL);
    if (!strcmp(kind, "assembly-stack")) return in_assembly(stack_top - 64);
    if (!strcmp(kind, "second-libc")) pid = by_second_libc();
    if (pid == 0) end_child();
    return pid;
}

static void await(pid_t pid) {
    int status = 0;
    if (pid <= 0 || waitpid(pid, &status, __WALL) != pid || status != 42 << 8)
        printf("child %s: status %x\n", pid > 0 ? "made" : strerror(errno), status);
}

/* A child of a child: both look. */
static void with_grandchild(const char *kind, const char *second) {
    pid_t pid = kind[0] == 'f' ? fork() : in_assembly(NULL);
    if (pid == 0) {
        await(make(second));
        end_child();
    }
    await(pid);
}

/* The child's next image begins anew. */
static void with_exec(void) {
    char mib[24];
    snprintf(mib, sizeof mib, "%zu", bytes / MIB);
    pid_t pid = in_assembly(NULL);
    if (pid == 0) {
        execl(self, self, "exec", "0", mib, "0", (char *)NULL);
        _exit(1);
    }
    await(pid);
}

/* One that ends at once, while its child has everything yet to come. */
static void with_daemon(void) {
    pid_t pid = in_assembly(NULL);
    if (pid == 0) {
        if (in_assembly(NULL) == 0)
            end_child();
        syscall(SYS_exit_group, 42);
    }
    await(pid);
    long before = 0;
    while (atomic_load(&found->children) == before)
        usleep(1000);
    atomic_fetch_sub(&found->children, 1);
}

static void *fork_in_assembly(void *rounds) {
    for (int i = 0; i < *(int *)rounds; i++) {
        pid_t pid = in_assembly(NULL);
        if (pid == 0) end_child();
        await(pid);
    }
    return NULL;
}

static void *change_own(void *number) {
    size_t size = 8 * MIB;
    uint64_t seed = 100 + (uint64_t)(uintptr_t)number * 1000;
    for (char *own = map_memory(size); !atomic_load(&done); seed++) {
        write_contents(own, size, seed);
        if (wrong_words(own, size, seed) != 0)
            printf("a thread's own contents are wrong\n");
        if (seed % 3 == 0) madvise(own, size / 2, MADV_DONTNEED);
        if (seed % 3 == 1 && (own = mremap(own, size, size, MREMAP_MAYMOVE)) == MAP_FAILED) fail("mremap");
    }
    return NULL;
}

static char *new_block(uint64_t seed) {
    char *block = map_memory(BLOCK);
    *(uint64_t *)block = seed;
    write_contents(block + HEAD, BLOCK - HEAD, seed);
    return block;
}

static void *replace_blocks(void *unused) {
    for (uint64_t seed = 5000; !atomic_load(&done); seed++) {
        char *old = atomic_exchange(&blocks[seed % BLOCKS], new_block(seed));
        if (wrong_words(old + HEAD, BLOCK - HEAD, *(uint64_t *)old) != 0)
            printf("a replaced block is wrong\n");
        munmap(old, BLOCK);
    }
    return unused;
}

static void rounds_of(const char *kind, int rounds) {
    pthread_t other;
    if (!strcmp(kind, "both")) pthread_create(&other, NULL, fork_in_assembly, &rounds);
    for (int i = 0; i < rounds; i++) {
        if (!strcmp(kind, "both")) await(make("fork"));
        else if (!strncmp(kind, "grandchild-", 11)) with_grandchild(strchr(kind, '-') + 1, strrchr(kind, '-') + 1);
        else if (!strcmp(kind, "assembly-exec")) with_exec();
        else if (!strcmp(kind, "daemon")) with_daemon();
        else await(make(kind));
    }
    if (!strcmp(kind, "both")) pthread_join(other, NULL);
}

/* `kind` may end in :KIB or :KIB:hole, for a stack of that size over a guard, or over nothing. */
static void make_stack(char *kind) {
    char *stack = map_memory(MIB), *size = strchr(kind, ':');
    memset(stack, 1, MIB);
    stack_top = stack + MIB;
    if (size == NULL) return;
    *size++ = 0;
    least_stack = strtoul(size, NULL, 10) * KIB;
    if (strchr(size, ':')) munmap(stack, MIB - least_stack);
    else mprotect(stack, MIB - least_stack, PROT_NONE);
}

int main(int count, char **args) {
    if (count != 5) return 2;
    char *kind = args[1];
    int rounds = atoi(args[2]);
    self = args[0];
    bytes = strtoul(args[3], NULL, 10) * MIB;
    threads = atoi(args[4]);
    setvbuf(stdout, NULL, _IONBF, 0);
    found = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    contents = map_memory(bytes);
    write_contents(contents, bytes, 1);
    wiped = map_memory(WIPED);
    memset(wiped, 7, WIPED);
    if (madvise(wiped, WIPED, MADV_WIPEONFORK) != 0) fail("MADV_WIPEONFORK");
    make_stack(kind);
    press(bytes / 2);
    for (int i = 0; i < BLOCKS && threads > 0; i++) blocks[i] = new_block(4000 + (uint64_t)i);
    pthread_t others[8];
    for (int i = 0; i < threads; i++)
        pthread_create(&others[i], NULL, i == 0 ? replace_blocks : change_own, (void *)(uintptr_t)i);
    rounds_of(kind, rounds);
    atomic_store(&done, 1);
    for (int i = 0; i < threads; i++) pthread_join(others[i], NULL);
    printf("%s: %ld children, %ld words wrong in them, %ld pages not wiped\n", kind, atomic_load(&found->children),
           atomic_load(&found->wrong), atomic_load(&found->not_wiped));
    printf("parent: %zu words wrong\n", wrong_words(contents, bytes, 1) + wrong_blocks());
    write_contents(contents, bytes, 9);
    printf("written anew: %zu words wrong\n", wrong_words(contents, bytes, 9));
    return strcmp(kind, "exec") == 0 ? 42 : 0;
}
