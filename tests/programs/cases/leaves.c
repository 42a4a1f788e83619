/* leaves MIB WHAT: its last thread leaves by exit(2), after which no process is there. WHAT: first (the only thread), second (the
 * first one is left by then), ended (the same, by libc), assembly, strict (the kernel allows no other end), child. */
#include "case.h"
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void *second(void *by_libc) {
    usleep(100000);
    write(1, "second\n", 7);
    if (by_libc == NULL)
        syscall(SYS_exit, 6);
    return NULL;
}

int main(int count, char **args) {
    if (count < 3)
        return 2;
    size_t bytes;
    const char *what = args[2];
    char *contents = map_contents(args[1], &bytes);
    pthread_t thread;
    if (!strcmp(what, "second") || !strcmp(what, "ended")) {
        if (pthread_create(&thread, NULL, second, what[0] == 's' ? NULL : contents) != 0)
            fail("pthread_create");
        syscall(SYS_exit, 3);
    }
    if (!strcmp(what, "assembly"))
        __asm__ volatile("syscall" : : "a"(SYS_exit), "D"(4) : "rcx", "r11");
    if (!strcmp(what, "strict") && prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
        fail("prctl");
    if (!strcmp(what, "child")) {
        pid_t pid = fork();
        if (pid == 0)
            syscall(SYS_exit, 5);
        int status = 0;
        if (waitpid(pid, &status, 0) != pid)
            fail("waitpid");
        printf("child: %d; %zu words wrong\n", status, wrong_words(contents, bytes, 1));
        return 0;
    }
    syscall(SYS_exit, 3);
}
