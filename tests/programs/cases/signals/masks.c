/* The state of signals before and after each call, for several masks and with signals pending. */
#include "signals.h"

long system_call(long number, long a, long b, long c, long d) {
    register long r10 __asm__("r10") = d;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

uint64_t blocked_signals(void) {
    uint64_t set = 0;
    system_call(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&set, sizeof set);
    return set;
}

void block_signals(uint64_t set) {
    system_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&set, 0, sizeof set);
}

void read_signals(struct signal_state *state) {
    memset(state, 0, sizeof *state);
    state->blocked = blocked_signals();
    system_call(SYS_rt_sigpending, (long)&state->pending, sizeof state->pending, 0, 0);
    for (int signal = 1; signal <= 64; signal++)
        system_call(SYS_rt_sigaction, signal, 0, (long)&state->actions[signal - 1], sizeof(uint64_t));
    system_call(SYS_sigaltstack, 0, (long)&state->stack, 0, 0);
}

static void handle(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info, (void)context;
}

static void compare(const char *name, const struct signal_state *before, const struct signal_state *after) {
    if (before->blocked != after->blocked)
        printf("%s: the mask was %lx, is %lx\n", name, before->blocked, after->blocked);
    if (before->pending != after->pending)
        printf("%s: pending was %lx, is %lx\n", name, before->pending, after->pending);
    if (memcmp(&before->stack, &after->stack, sizeof before->stack) != 0)
        printf("%s: another alternate stack\n", name);
    for (int signal = 1; signal <= 64; signal++)
        if (memcmp(&before->actions[signal - 1], &after->actions[signal - 1], sizeof before->actions[0]) != 0)
            printf("%s: another action for signal %d\n", name, signal);
}

static void install(int signal, int flags) {
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | flags};
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaction(signal, &action, NULL);
}

void masks(void) {
    struct ground ground;
    static struct signal_state before, after;
    static const uint64_t sets[] = {0, BIT(SIGUSR1) | BIT(40), ~0UL & ~BIT(SIGKILL) & ~BIT(SIGSTOP)};
    stack_t stack = {.ss_sp = map_memory(64 * KIB), .ss_size = 64 * KIB};
    sigaltstack(&stack, NULL);
    install(SIGSEGV, SA_ONSTACK);
    install(SIGUSR1, SA_RESTART);
    install(40, SA_ONSTACK);
    signal(SIGPIPE, SIG_IGN);
    make_ground(&ground);
    for (size_t set = 0; set < sizeof sets / sizeof *sets; set++) {
        block_signals(sets[set]);
        raise(SIGUSR1);
        raise(40);
        for (size_t i = 0; i < call_count; i++) {
            entering(calls[i].name);
            read_signals(&before);
            bool right = calls[i].make(&ground);
            read_signals(&after);
            /* What a child leaves behind. */
            before.pending &= ~BIT(SIGCHLD);
            after.pending &= ~BIT(SIGCHLD);
            compare(calls[i].name, &before, &after);
            printf("%s, mask %lx, pending %lx: %s\n", calls[i].name, before.blocked, before.pending, right ? "right" : "wrong");
        }
        block_signals(0);
    }
    drop_ground(&ground);
}
