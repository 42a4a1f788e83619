/* A program that restrains itself while it sleeps, and then wants more memory. Usage: restrained MODE
 * namespace: it enters a user namespace, for which it has to have one thread. filter: a filter of its system calls allows mmap with
 * some flags only, as chromium's. */
#include "case.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define ALLOWED (MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE | MAP_FIXED | MAP_DENYWRITE | MAP_LOCKED)

static int filter(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[3])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, ~(unsigned)ALLOWED, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ? -1 : prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char **argv) {
    int in_namespace = argc > 1 && strcmp(argv[1], "namespace") == 0;
    size_t bytes = 12 * MIB;
    char *before = map_memory(bytes);
    write_contents(before, bytes, 1);
    /* It joins within that time. */
    usleep(200000);
    printf("restrained: %d\n", in_namespace ? unshare(CLONE_NEWUSER) : filter());
    size_t wrong = 0;
    enum { BLOCKS = 300 };
    static char *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(64 * KIB);
        write_contents(blocks[i], 64 * KIB, (uint64_t)i);
    }
    char *near = mmap((char *)((uintptr_t)main & ~(PAGE - 1)) + 64 * MIB, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    write_contents(near, MIB, 2);
    for (int i = 0; i < BLOCKS; i++)
        wrong += wrong_words(blocks[i], 64 * KIB, (uint64_t)i);
    wrong += wrong_words(before, bytes, 1) + wrong_words(near, MIB, 2);
    printf("wrong: %zu\n", wrong);
    return 0;
}
