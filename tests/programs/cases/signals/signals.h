/* Calls amid signals: what a thread's mask, its pending signals, the actions and the alternate stack are before and after
   each, and that no signal is lost.

   calls.c   the calls                                  masks.c     the state of signals around each of them
   storm.c   each of them in a storm of signals         repair.c    handlers of SIGSEGV that mend what was touched
   children.c what is inherited by a child              main.c      the parts by name, and a watch over hangs */
#ifndef SIGNALS_H
#define SIGNALS_H
#include "../case.h"
#include <signal.h>
#include <stdbool.h>
#include <sys/syscall.h>

/* What a thread makes its calls on. */
struct ground {
    /* Memory with contents, of GROUND_PAGES. */
    char *at;
    int file, self, socket;
};
#define GROUND_PAGES 32
void make_ground(struct ground *ground);
void drop_ground(struct ground *ground);

struct call {
    const char *name;
    /* True if all of it went as it has to. */
    bool (*make)(struct ground *ground);
    /* It takes long, or is not to be made by several threads. */
    bool rare;
};
extern const struct call calls[];
extern const size_t call_count;

/* All that the kernel knows of the calling thread's signals. */
struct signal_state {
    uint64_t blocked, pending;
    struct kernel_action {
        void *handler;
        unsigned long flags;
        void *restorer;
        uint64_t mask;
    } actions[64];
    stack_t stack;
};
/* In assembly: nothing is in between. */
long system_call(long number, long a, long b, long c, long d);
void read_signals(struct signal_state *state);
/* The set of blocked signals, bit n - 1 for signal n; `set` in its place. */
uint64_t blocked_signals(void);
void block_signals(uint64_t set);
#define BIT(signal) (1UL << ((signal)-1))

/* The call that a thread is in, for who finds it hanging; progress of any kind. */
void entering(const char *call);

void masks(void);
void storm(void);
void repair(void);
void children(const char *program);
/* In a program that was started: what it inherited. */
void report_inherited(void);

#endif
