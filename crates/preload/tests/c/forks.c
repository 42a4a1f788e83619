/* Every way to a new process, with threads that allocate all the while: contents stay right in parent and child. */
#define _GNU_SOURCE
#include "check.h"
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
extern pid_t _Fork(void);

static char *shared_past; /* written before each fork, looked at after it */
static volatile int done;
static int few; /* with an argument: fewer rounds */
enum { LEN = 1 << 20 };

static void look(char mark) {
    for (int i = 0; i < LEN; i += 512) CHECK(shared_past[i] == mark);
}

/* What a child does: look at what its parent wrote, and write. Without libc's fork it must not call malloc, whose lock
   another thread may have held. */
static int bare_child(void *mark) {
    look(*(char *)mark);
    memset(shared_past, 'c', LEN);
    look('c');
    return 42;
}

static int child(void *mark) {
    char *own = malloc(300000), *text = strdup("in the child");
    memset(own, 1, 300000);
    free(own), free(text);
    return bare_child(mark);
}

static void expect(pid_t pid) {
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, __WCLONE | __WALL) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
}

static void *churn(void *unused) {
    while (!done) {
        char *p = malloc(100 + rand() % 100000), *text = strdup("text");
        p[0] = text[0];
        free(p), free(text);
    }
    return unused;
}

static void *fork_often(void *unused) {
    for (int i = 0; i < (few ? 8 : 30); i++) {
        pid_t pid = fork();
        if (pid == 0) _exit(malloc(1000) ? 42 : 1);
        expect(pid);
    }
    return unused;
}

static void all_kinds(char mark) {
    pid_t pid;
    memset(shared_past, mark, LEN);
    if ((pid = fork()) == 0) exit(child(&mark));
    expect(pid);
    if ((pid = _Fork()) == 0) _exit(bare_child(&mark));
    expect(pid);
    if ((pid = (pid_t)syscall(SYS_fork)) == 0) _exit(bare_child(&mark));
    expect(pid);
    if ((pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)) == 0) _exit(bare_child(&mark));
    expect(pid);
    char *stack = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    expect(clone(bare_child, stack + LEN, SIGCHLD, &mark));
    CHECK(munmap(stack, LEN) == 0);
    look(mark);
    if ((pid = vfork()) == 0) {
        execl("/bin/sh", "sh", "-c", "exit 42", NULL);
        _exit(1);
    }
    expect(pid);
    char *args[] = {"sh", "-c", "exit 42", NULL};
    CHECK(posix_spawn(&pid, "/bin/sh", NULL, NULL, args, environ) == 0);
    expect(pid);
    CHECK(WEXITSTATUS(system("exit 42")) == 42);
    look(mark);
}

static void leave_home(void) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(daemon(1, 1) == 0);
        char mark = 'x';
        CHECK(child(&mark) == 42 && write(ends[1], "d", 1) == 1);
        _exit(0);
    }
    char got = 0;
    CHECK(pid > 0 && waitpid(pid, NULL, 0) == pid && read(ends[0], &got, 1) == 1 && got == 'd');
    int terminal;
    pid = forkpty(&terminal, NULL, NULL, NULL);
    if (pid == 0) {
        char mark = 'x';
        _exit(child(&mark));
    }
    expect(pid);
    FILE *pipe = popen("echo popen", "r");
    char line[20] = "";
    CHECK(pipe && fgets(line, sizeof line, pipe) && !strcmp(line, "popen\n") && pclose(pipe) == 0);
}

/* A signal handler may fork while its thread is inside malloc; parent and child go on from there. */
static volatile int from_handlers, grandchild;

/* Set anew by the handler: one that takes longer than the time between two signals must not be all that runs. */
static void ring_soon(void) {
    struct itimerval soon = {{0, 0}, {0, 3000}};
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0); /* children do not inherit it */
}

/* By the one fork that POSIX allows in a handler: fork itself waits for malloc's locks. */
static void fork_here(int signal) {
    (void)signal;
    pid_t pid = _Fork();
    if (pid == 0) {
        grandchild = 1;
        return;
    }
    expect(pid), from_handlers++;
    ring_soon();
}

static void fork_inside_malloc(void) {
    struct itimerval never = {{0, 0}, {0, 0}};
    char *kept[64] = {0};
    signal(SIGALRM, fork_here);
    ring_soon();
    for (unsigned i = 0, more = 2000; from_handlers < (few ? 10 : 40) && more; i++) {
        size_t size = 257 + i * 7919 % 9000;
        kept[i % 64] = realloc(kept[i % 64], size);
        kept[i % 64][size - 1] = 1;
        if (i % 5 == 0) free(kept[i % 64]), kept[i % 64] = NULL;
        if (grandchild) more--;
    }
    if (grandchild) _exit(42);
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    for (int i = 0; i < 64; i++) free(kept[i]);
}

static int prepared, in_parent, in_child;
static void note_prepare(void) { prepared++, free(malloc(10000)); }
static void note_parent(void) { in_parent++, free(malloc(10000)); }
static void note_child(void) { in_child++, free(malloc(10000)); }

int main(int argc, char **argv) {
    (void)argv;
    few = argc > 1;
    for (int i = 0; i < (few ? 1 : 3); i++) from_handlers = 0, fork_inside_malloc();
    CHECK(pthread_atfork(note_prepare, note_parent, note_child) == 0);
    shared_past = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    all_kinds('a');
    CHECK(prepared == 1 && in_parent == 1 && in_child == 0);
    pthread_t threads[4];
    for (int i = 0; i < 2; i++) CHECK(!pthread_create(&threads[i], NULL, churn, NULL));
    for (int i = 2; i < 4; i++) CHECK(!pthread_create(&threads[i], NULL, fork_often, NULL));
    for (char mark = 'd'; mark < (few ? 'f' : 'n'); mark++) all_kinds(mark);
    for (int i = 2; i < 4; i++) CHECK(!pthread_join(threads[i], NULL));
    done = 1;
    for (int i = 0; i < 2; i++) CHECK(!pthread_join(threads[i], NULL));
    memset(shared_past, 'x', LEN);
    leave_home();
    puts("forks ok");
    return 0;
}
