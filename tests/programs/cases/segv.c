/* Handlers of SIGSEGV, set in every way: what they are told, on which stack and with which mask they run, what is said of
   them to who asks, and what their return does. */
#include "case.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>

#define BARRIER_PAGES 512

static char *mapped, *gone, *barred;
static sigjmp_buf before;
static char *volatile expected;
static volatile int depth;

static int is_blocked(int number) {
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    return sigismember(&mask, number);
}

static const char *stack_name(void) {
    stack_t stack;
    sigaltstack(NULL, &stack);
    return stack.ss_flags & SS_ONSTACK ? "alternate" : "usual";
}

static void told(int number, siginfo_t *info, void *context) {
    const ucontext_t *machine = context;
    printf("  signal %d code %d at %+ld, error %lld, on the %s stack, SEGV %s, USR1 %s\n", number, info->si_code,
           (long)((char *)info->si_addr - expected), (long long)machine->uc_mcontext.gregs[REG_ERR], stack_name(),
           is_blocked(SIGSEGV) ? "blocked" : "free", is_blocked(SIGUSR1) ? "blocked" : "free");
}

static void leave(int number, siginfo_t *info, void *context) {
    told(number, info, context);
    siglongjmp(before, 1);
}

static void leave_plainly(int number) {
    printf("  signal %d, on the %s stack\n", number, stack_name());
    siglongjmp(before, 1);
}

static void touch(char *at) {
    expected = at;
    if (sigsetjmp(before, 1) == 0)
        *(volatile char *)at = 1;
}

static void touch_all(const char *what) {
    printf("%s\n", what);
    touch(gone + 100);
    touch(barred + 200);
    touch(NULL);
    touch(mapped);
}

static void install(void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = flags};
    if (flags & SA_RESTART)
        sigaddset(&action.sa_mask, SIGUSR1);
    if (sigaction(SIGSEGV, &action, NULL) != 0)
        fail("sigaction");
}

static const char *name_of(void *handler) {
    return handler == (void *)leave ? "leave" : handler == (void *)leave_plainly ? "leave_plainly"
           : handler == (void *)SIG_DFL ? "default" : handler == (void *)SIG_IGN ? "ignore" : "another";
}

static void ask(void) {
    struct sigaction action;
    struct {
        void *handler;
        unsigned long flags, restorer, mask;
    } raw;
    sigaction(SIGSEGV, NULL, &action);
    syscall(SYS_rt_sigaction, SIGSEGV, NULL, &raw, 8);
    printf("  action: %s, flags %x; by number: %s\n", name_of((void *)action.sa_sigaction), action.sa_flags,
           name_of(raw.handler));
}

static void by_sigaction(void) {
    static const int flags[] = {0, SA_NODEFER, SA_RESTART, SA_ONSTACK, SA_ONSTACK | SA_NODEFER | SA_RESTART};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        char what[64];
        snprintf(what, sizeof what, "sigaction, flags %x", flags[i]);
        install(leave, SA_SIGINFO | flags[i]);
        touch_all(what);
        ask();
    }
    struct sigaction plain = {.sa_handler = leave_plainly, .sa_flags = SA_ONSTACK};
    sigaction(SIGSEGV, &plain, NULL);
    touch_all("sigaction without SA_SIGINFO");
    ask();
    install(leave, SA_SIGINFO | SA_RESETHAND);
    printf("once\n");
    touch(gone);
    ask();
}

static void by_others(void) {
    install(leave, SA_SIGINFO);
    printf("signal: before %s\n", name_of((void *)signal(SIGSEGV, leave_plainly)));
    touch_all("signal");
    install(leave, SA_SIGINFO);
    printf("sysv_signal: before %s\n", name_of((void *)sysv_signal(SIGSEGV, leave_plainly)));
    touch(gone);
    ask();
    install(leave, SA_SIGINFO);
    printf("ignored: before %s\n", name_of((void *)signal(SIGSEGV, SIG_IGN)));
    ask();
    struct {
        void *handler;
        unsigned long flags, restorer, mask;
    } raw = {(void *)leave, 0, 0, 0}, old;
    install(leave, SA_SIGINFO | SA_ONSTACK);
    syscall(SYS_rt_sigaction, SIGSEGV, NULL, &old, 8);
    raw.flags = old.flags & ~(unsigned long)SA_ONSTACK, raw.restorer = old.restorer;
    printf("by number: %ld", syscall(SYS_rt_sigaction, SIGSEGV, &raw, &old, 8));
    printf(", before %s; ", name_of(old.handler));
    printf("bad pointers %ld %ld, bad size %ld\n", syscall(SYS_rt_sigaction, SIGSEGV, 8, NULL, 8),
           syscall(SYS_rt_sigaction, SIGSEGV, NULL, 8, 8), syscall(SYS_rt_sigaction, SIGSEGV, &raw, NULL, 4));
    touch_all("rt_sigaction");
    ask();
}

/* A handler that lets go on: the page is given rights, or memory. */
static volatile long barriers, others;

static void mend(int number, siginfo_t *info, void *context) {
    char *page = (char *)((unsigned long)info->si_addr & -PAGE);
    if (info->si_code == SEGV_ACCERR && page >= barred && page < barred + BARRIER_PAGES * PAGE) {
        barriers++;
        mprotect(page, PAGE, PROT_READ | PROT_WRITE);
    } else if (info->si_code == SEGV_MAPERR) {
        others++;
        mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    } else {
        told(number, info, context);
        _exit(3);
    }
}

static void *write_all(void *from) {
    for (size_t page = 0; page < BARRIER_PAGES; page++)
        ((volatile char *)from)[page * PAGE] = (char)page;
    return NULL;
}

static void by_mending(void) {
    pthread_t thread;
    install(mend, SA_SIGINFO | SA_ONSTACK);
    write_all(barred);
    write_all(gone);
    mprotect(barred, BARRIER_PAGES * PAGE, PROT_NONE);
    munmap(gone, BARRIER_PAGES * PAGE);
    pthread_create(&thread, NULL, write_all, barred);
    pthread_join(thread, NULL);
    write_all(gone);
    size_t wrong = 0;
    for (size_t page = 0; page < BARRIER_PAGES; page++)
        wrong += barred[page * PAGE] != (char)page || gone[page * PAGE] != (char)page;
    printf("mended %ld of rights and %ld of nothing, %zu are wrong\n", barriers, others, wrong);
    munmap(gone, BARRIER_PAGES * PAGE);
    mprotect(barred, BARRIER_PAGES * PAGE, PROT_NONE);
}

/* One handler hands on to the one before it; and one faults within itself. */
static struct sigaction outer;

static void hand_on(int number, siginfo_t *info, void *context) {
    printf("  handed on to %s\n", name_of((void *)outer.sa_sigaction));
    outer.sa_sigaction(number, info, context);
}

static void nest(int number, siginfo_t *info, void *context) {
    told(number, info, context);
    if (depth++ == 0)
        *(volatile char *)(expected = barred) = 1;
    siglongjmp(before, 1);
}

static void by_chains(void) {
    struct sigaction action = {.sa_sigaction = hand_on, .sa_flags = SA_SIGINFO};
    install(leave, SA_SIGINFO);
    sigaction(SIGSEGV, &action, &outer);
    touch_all("a chain");
    sigaction(SIGSEGV, &outer, NULL);
    ask();
    install(nest, SA_SIGINFO | SA_NODEFER | SA_ONSTACK);
    printf("nested\n");
    touch(gone);
}

static int end_of(void (*act)(void)) {
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        act();
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, &status, 0);
    return status;
}

static void inherited(void) {
    touch_all("in a child");
    ask();
}

static void ignored(void) {
    struct sigaction action = {.sa_handler = SIG_IGN, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    touch(gone);
}

static void defaulted(void) {
    struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    touch(gone);
}

static void blocked(void) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGSEGV);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    touch(gone);
}

/* Addresses amid much that is free, so that nothing else is put there. */
static char *free_memory(void) {
    const size_t len = 1UL << 30;
    char *at = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED || munmap(at, len) != 0)
        fail("no free memory");
    return at + len / 2;
}

int main(void) {
    stack_t stack = {.ss_sp = map_memory(64 * KIB), .ss_size = 64 * KIB};
    sigaltstack(&stack, NULL);
    mapped = map_memory(PAGE);
    barred = map_memory(BARRIER_PAGES * PAGE);
    mprotect(barred, BARRIER_PAGES * PAGE, PROT_NONE);
    gone = free_memory();
    by_sigaction();
    by_others();
    by_mending();
    by_chains();
    install(leave, SA_SIGINFO);
    printf("ends: %d", end_of(inherited));
    printf(" %d", end_of(ignored));
    printf(" %d", end_of(defaulted));
    printf(" %d\n", end_of(blocked));
    return 0;
}
