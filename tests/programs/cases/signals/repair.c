/* Handlers of SIGSEGV that mend what was touched, and what they are told: address, code, masks, the stack that they run on.
   With alarms all the while; and the same where a blocking call is interrupted. */
#include "signals.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <ucontext.h>

#define PAGES 64
#define STACK (64 * KIB)

static char *barred, *stack_at;
static char *volatile touched;
static atomic_long mended, wrong_address, wrong_code, wrong_mask, wrong_stack, wrong_rights;
static atomic_long alarms;
static volatile uint64_t mask_outside;
static volatile int code_expected;

static void mend(int signal, siginfo_t *info, void *context) {
    const ucontext_t *outside = context;
    const uint64_t own = blocked_signals(), saved = *(const uint64_t *)&outside->uc_sigmask;
    stack_t now;
    char here;
    sigaltstack(NULL, &now);
    wrong_address += info->si_addr != touched;
    wrong_code += info->si_code != code_expected;
    wrong_mask += saved != mask_outside || own != (saved | BIT(signal) | BIT(SIGUSR2));
    wrong_stack += &here < stack_at || &here >= stack_at + STACK || !(now.ss_flags & SS_ONSTACK);
    char *page = (char *)((uintptr_t)info->si_addr & -PAGE);
    if (code_expected == SEGV_ACCERR)
        wrong_rights += mprotect(page, PAGE, PROT_READ | PROT_WRITE) != 0;
    else
        wrong_rights += mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != page;
    mended++;
}

static void on_alarm(int signal) {
    (void)signal;
    alarms++;
}

/* Touches each page at a place of its own; what it holds afterwards is compared. */
static void touch_all(const char *what, int code, uint64_t seed) {
    size_t wrong = 0;
    mended = wrong_address = wrong_code = wrong_mask = wrong_stack = wrong_rights = 0;
    code_expected = code;
    mask_outside = blocked_signals();
    for (size_t page = 0; page < PAGES; page++) {
        touched = barred + page * PAGE + 64 * page % PAGE;
        if (page % 2)
            *(volatile char *)touched = *(volatile char *)touched;
        else
            (void)*(volatile char *)touched;
        if (code == SEGV_ACCERR)
            wrong += wrong_words(barred + page * PAGE, PAGE, seed + page) != 0;
    }
    printf("%s: %ld mended; wrong: %ld addresses, %ld codes, %ld masks, %ld stacks, %ld calls, %zu pages\n", what, mended,
           wrong_address, wrong_code, wrong_mask, wrong_stack, wrong_rights, wrong);
}

static void fill(uint64_t seed) {
    for (size_t page = 0; page < PAGES; page++)
        write_contents(barred + page * PAGE, PAGE, seed + page);
}

static void each_way(void) {
    for (uint64_t round = 0; round < 3; round++) {
        fill(round * 1000);
        mprotect(barred, PAGES * PAGE, PROT_NONE);
        touch_all("without rights", SEGV_ACCERR, round * 1000);
        /* Out of memory, and then without rights. */
        madvise(barred, PAGES * PAGE, MADV_PAGEOUT);
        mprotect(barred, PAGES * PAGE, PROT_NONE);
        touch_all("out of memory and without rights", SEGV_ACCERR, round * 1000);
        munmap(barred, PAGES * PAGE);
        touch_all("unmapped", SEGV_MAPERR, 0);
    }
}

static void show_action(void) {
    struct sigaction action;
    sigaction(SIGSEGV, NULL, &action);
    printf("action: %s, flags %x, SIGUSR2 %s\n", action.sa_sigaction == mend ? "its own" : "another", action.sa_flags & ~0x4000000,
           sigismember(&action.sa_mask, SIGUSR2) ? "masked" : "let in");
}

static int ends[2];
static atomic_int reader;

static void *read_slowly(void *at) {
    struct sigaction action = {.sa_handler = on_alarm};
    ssize_t got;
    reader = syscall(SYS_gettid);
    for (int restarts = 0; restarts < 2; restarts++) {
        action.sa_flags = restarts ? SA_RESTART : 0;
        sigaction(SIGUSR1, &action, NULL);
        madvise(at, PAGE, MADV_PAGEOUT);
        got = read(ends[0], at, 4);
        printf("read%s: %s\n", restarts ? ", restarting" : "", got == 4 ? "all" : got < 0 && errno == EINTR ? "interrupted" : "?");
        reader = restarts ? 0 : -1;
    }
    return NULL;
}

static bool sleeps_in_read(pid_t tid) {
    char path[64], text[64] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    FILE *file = fopen(path, "r");
    if (file && !fgets(text, sizeof text, file))
        text[0] = 0;
    if (file)
        fclose(file);
    return strncmp(text, "0 ", 2) == 0;
}

/* A blocking call is interrupted where it is natively, and nowhere else. */
static void interrupt(void) {
    pthread_t thread;
    if (pipe(ends) != 0)
        fail("pipe");
    pthread_create(&thread, NULL, read_slowly, map_memory(PAGE));
    while (reader == 0)
        usleep(1000);
    const pid_t tid = reader;
    for (int sent = 0; sent < 4; sent++) {
        while (!sleeps_in_read(tid))
            usleep(1000);
        const long before = alarms;
        pthread_kill(thread, SIGUSR1);
        while (alarms == before)
            usleep(1000);
        /* The first ends the first read; those after it end none. */
        while (sent == 0 && reader == tid)
            usleep(1000);
    }
    if (write(ends[1], "data", 4) != 4)
        fail("write");
    pthread_join(thread, NULL);
}

void repair(void) {
    struct sigaction action = {.sa_sigaction = mend, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct sigaction alarm = {.sa_handler = on_alarm, .sa_flags = SA_RESTART | SA_ONSTACK};
    const struct itimerval often = {{0, 700}, {0, 700}}, never = {{0, 0}, {0, 0}};
    stack_at = map_memory(STACK);
    stack_t stack = {.ss_sp = stack_at, .ss_size = STACK};
    sigaltstack(&stack, NULL);
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGALRM, &alarm, NULL);
    /* Amid much that is free, so that nothing else comes there when it is unmapped. */
    barred = mmap(NULL, 64 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    munmap(barred, 64 * MIB);
    barred += 32 * MIB;
    mmap(barred, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    entering("touches that are mended");
    each_way();
    block_signals(BIT(SIGUSR1) | BIT(44));
    setitimer(ITIMER_REAL, &often, NULL);
    entering("touches that are mended amid alarms");
    each_way();
    setitimer(ITIMER_REAL, &never, NULL);
    block_signals(0);
    show_action();
    entering("a read that is interrupted");
    interrupt();
}
