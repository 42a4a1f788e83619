/* filters MIB WHAT: restricts its own system calls to what memory takes natively, and works on. WHAT: kill, refuse, control (by
 * prctl), all (for all threads, of which there is one), all-of-two, twice. Prints what was wrong. */
#include "case.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static const int allowed[] = {SYS_read, SYS_write, SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_brk, SYS_futex,
                              SYS_exit, SYS_exit_group, SYS_rt_sigreturn, SYS_newfstatat, SYS_getrandom, SYS_seccomp, SYS_prctl};
enum { COUNT = sizeof allowed / sizeof *allowed };

static void restrict_calls(const char *what, unsigned otherwise) {
    struct sock_filter code[2 * COUNT + 2];
    int length = 0;
    code[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < COUNT; i++) {
        code[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], 0, 1);
        code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, otherwise);
    struct sock_fprog program = {length, code};
    long answer = !strcmp(what, "control") ? prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)
        : syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, strncmp(what, "all", 3) ? 0 : SECCOMP_FILTER_FLAG_TSYNC, &program);
    if (answer != 0)
        fail("seccomp");
}

/* What the two threads tell each other; a thread's end would take other calls. */
static volatile int begun, go, looked;
static volatile size_t others_wrong;

static void *other(void *contents) {
    for (begun = 1; !go;)
        __asm__ volatile("pause");
    others_wrong = wrong_words(contents, 8 * MIB, 1);
    for (looked = 1;;)
        __asm__ volatile("pause");
    return NULL;
}

int main(int count, char **args) {
    if (count < 3)
        return 2;
    size_t bytes;
    const char *what = args[2];
    setvbuf(stdout, NULL, _IONBF, 0);
    char *contents = map_contents(args[1], &bytes);
    pthread_t thread;
    int two = !strcmp(what, "all-of-two");
    if (two && pthread_create(&thread, NULL, other, contents) != 0)
        fail("pthread_create");
    while (two && !begun)
        __asm__ volatile("pause");
    /* The kernel says what is wrong with what it is given. */
    long none = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL);
    printf("none: %ld %s\n", none, strerror(errno));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        fail("prctl");
    unsigned otherwise = !strcmp(what, "refuse") ? SECCOMP_RET_ERRNO | EPERM : SECCOMP_RET_KILL_PROCESS;
    for (int i = !strcmp(what, "twice") ? 0 : 1; i < 2; i++)
        restrict_calls(what, otherwise);
    go = 1;
    size_t wrong = wrong_words(contents, bytes, 1);
    for (int i = 0; i < 10; i++) {
        char *more = map_memory(2 * MIB);
        write_contents(more, 2 * MIB, i);
        if (mprotect(more, MIB, PROT_READ) != 0 || mprotect(more, MIB, PROT_READ | PROT_WRITE) != 0)
            printf("mprotect: %s\n", strerror(errno));
        more = mremap(more, 2 * MIB, 4 * MIB, MREMAP_MAYMOVE);
        if (more == MAP_FAILED || madvise(more + 2 * MIB, 2 * MIB, MADV_DONTNEED) != 0)
            printf("mremap, madvise: %s\n", strerror(errno));
        wrong += wrong_words(more, 2 * MIB, i);
        munmap(more, 4 * MIB);
        char *block = malloc(3 * MIB);
        memset(block, i, 3 * MIB);
        free(block);
    }
    wrong += wrong_words(contents, bytes, 1);
    while (two && !looked)
        __asm__ volatile("pause");
    printf("%s: %zu words wrong, %zu in the other thread\n", what, wrong, others_wrong);
    if (!strcmp(what, "refuse"))
        printf("getppid: %ld\n", syscall(SYS_getppid));
    return 7;
}
