/* What children inherit of signals: the mask and what is ignored, across fork, clone and exec; nothing that is pending. */
#include "signals.h"

#include <sched.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;
extern pid_t _Fork(void);

static const char *program;

void report_inherited(void) {
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file)) {
        unsigned long set;
        /* But for the two that libc keeps for itself. */
        if (strncmp(line, "Sig", 3) == 0 && strncmp(line, "SigQ", 4) != 0 && sscanf(line + 7, "%lx", &set) == 1)
            printf("  %.7s %lx\n", line, set & ~(BIT(32) | BIT(33)));
    }
    fflush(stdout);
}

static int in_clone(void *unused) {
    (void)unused;
    report_inherited();
    return 0;
}

static void expect_end(pid_t pid) {
    int status;
    if (pid < 0 || waitpid(pid, &status, __WALL) != pid)
        fail("child");
    printf("  status %x\n", status);
}

static void start(const char *how) {
    char *arguments[] = {(char *)program, "inherited", NULL};
    pid_t pid = 0;
    printf("%s\n", how);
    fflush(stdout);
    entering(how);
    if (strcmp(how, "fork") == 0)
        pid = fork();
    else if (strcmp(how, "_Fork") == 0)
        pid = _Fork();
    else if (strcmp(how, "clone") == 0)
        pid = clone(in_clone, (char *)map_memory(MIB) + MIB, SIGCHLD, NULL);
    else if (strcmp(how, "syscall") == 0)
        pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    else if (strcmp(how, "posix_spawn") == 0)
        posix_spawn(&pid, program, NULL, NULL, arguments, environ);
    else if (strcmp(how, "vfork, execv") == 0) {
        pid = vfork();
        if (pid == 0) {
            execv(program, arguments);
            _exit(97);
        }
    } else {
        pid = fork();
        if (pid == 0) {
            execl(program, program, "inherited", NULL);
            _exit(97);
        }
    }
    if (pid == 0) {
        report_inherited();
        _exit(0);
    }
    expect_end(pid);
}

static void handle(int signal) {
    (void)signal;
}

void children(const char *name) {
    static const char *const ways[] = {"fork", "_Fork", "clone", "syscall", "posix_spawn", "vfork, execv", "fork, execl"};
    struct sigaction action = {.sa_handler = handle};
    program = name;
    sigaction(SIGUSR1, &action, NULL);
    sigaction(45, &action, NULL);
    signal(SIGUSR2, SIG_IGN);
    block_signals(BIT(SIGUSR1) | BIT(SIGHUP) | BIT(45));
    raise(SIGUSR1);
    raise(45);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        start(ways[i]);
    printf("the parent\n");
    report_inherited();
}
