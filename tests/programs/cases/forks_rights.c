/* forks_rights MIB WHAT [DIRECTORY]: gives up what a fork under Quire once needed, and forks. The child looks at all contents. */
#include "case.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define REFUSE(number)                                      \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1),    \
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

/* Whoever still wants what a pager is made of, is ended. */
static void filter(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        REFUSE(SYS_userfaultfd),
        REFUSE(SYS_socket),
        REFUSE(SYS_unshare),
        REFUSE(SYS_openat),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        fail("seccomp");
}

static void give_up(const char *what, const char *directory) {
    if (!strcmp(what, "user") && (setgid(65534) != 0 || setuid(65534) != 0))
        fail("setuid");
    if (!strcmp(what, "root") && chroot(directory) != 0)
        fail("chroot");
    if (!strcmp(what, "filter"))
        filter();
    struct rlimit few = {4, 4};
    if (!strcmp(what, "descriptors") && setrlimit(RLIMIT_NOFILE, &few) != 0)
        fail("setrlimit");
}

int main(int count, char **args) {
    if (count < 3)
        return 2;
    size_t bytes;
    setvbuf(stdout, NULL, _IONBF, 0);
    char *contents = map_contents(args[1], &bytes);
    press(bytes / 2);
    give_up(args[2], args[count - 1]);
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            printf("child: %zu words wrong\n", wrong_words(contents, bytes, 1));
            write_contents(contents, bytes / 2, 2);
            _exit(42);
        }
        int status = 0;
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            printf("no child: %s\n", strerror(errno));
        printf("status %x\n", status);
    }
    printf("parent: %zu words wrong\n", wrong_words(contents, bytes, 1));
    return 0;
}
