/* Starts PROGRAM in every way that libc and the kernel have, one after the other: execs PROGRAM [exec|spawn|raw] */
#include "case.h"

#include <fcntl.h>
#include <libgen.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

static char *program;

static void report(const char *way, pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    printf("%s: status %d\n", way, WEXITSTATUS(status));
    fflush(stdout);
}

static void by_exec(const char *way) {
    char *name = basename(program);
    char *argv[] = {name, "one", "two", "three", "four", "five", "six", NULL};
    if (strcmp(way, "execve") == 0)
        execve(program, argv, environ);
    if (strcmp(way, "execv") == 0)
        execv(program, argv);
    if (strcmp(way, "execvp") == 0)
        execvp(name, argv);
    if (strcmp(way, "execvpe") == 0)
        execvpe(name, argv, environ);
    if (strcmp(way, "execl") == 0)
        execl(program, name, "one", "two", "three", "four", "five", "six", (char *)NULL);
    if (strcmp(way, "execlp") == 0)
        execlp(name, name, "one", "two", "three", "four", "five", "six", (char *)NULL);
    if (strcmp(way, "execle") == 0)
        execle(program, name, "one", "two", "three", "four", "five", "six", (char *)NULL, environ);
    if (strcmp(way, "fexecve") == 0)
        fexecve(open(program, O_RDONLY), argv, environ);
    if (strcmp(way, "execveat") == 0)
        execveat(AT_FDCWD, program, argv, environ, 0);
    if (strcmp(way, "syscall") == 0)
        syscall(SYS_execve, program, argv, environ);
    _exit(97);
}

static void start(const char *way, int in_vfork) {
    pid_t pid = in_vfork ? vfork() : fork();
    if (pid == 0)
        by_exec(way);
    report(way, pid);
}

/* execve without libc. */
static void by_hand(void) {
    char *argv[] = {program, NULL};
    long answer;
    __asm__ volatile("syscall"
                     : "=a"(answer)
                     : "a"(SYS_execve), "D"(program), "S"(argv), "d"(environ)
                     : "rcx", "r11", "memory");
    _exit(96);
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 98;
    program = argv[1];
    char path[4096];
    snprintf(path, sizeof path, "/nonexistent:%s", dirname(strdup(program)));
    setenv("PATH", path, 1);
    static const char *ways[] = {"execve", "execv",  "execvp",  "execvpe",  "execl",
                                 "execlp", "execle", "fexecve", "execveat", "syscall"};
    if (strcmp(argv[2], "exec") == 0)
        for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
            start(ways[i], 0);
            start(ways[i], 1);
        }
    if (strcmp(argv[2], "spawn") == 0) {
        char *arguments[] = {program, NULL};
        pid_t pid = 0;
        if (posix_spawn(&pid, program, NULL, NULL, arguments, environ) == 0)
            report("posix_spawn", pid);
        if (posix_spawnp(&pid, basename(strdup(program)), NULL, NULL, arguments, environ) == 0)
            report("posix_spawnp", pid);
    }
    if (strcmp(argv[2], "raw") == 0) {
        pid_t pid = fork();
        if (pid == 0)
            by_hand();
        report("by hand", pid);
    }
    return 0;
}
