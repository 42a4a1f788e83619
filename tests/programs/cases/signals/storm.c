/* Each call in a storm: a timer for each thread, SIGALRM for the process, and queued signals, of which none may be lost. */
#include "signals.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>

#define THREADS 2
#define QUEUED 800
#define ROUNDS 16
#define RARE_ROUNDS 6
/* At least so many signals of each timer. */
#define TIMED 100
#define ALARMS 20
#define TIMER (SIGRTMIN + 1)
#define NUMBERED (SIGRTMIN + 2)

struct worker {
    pthread_t thread;
    atomic_int tid;
    timer_t timer;
    volatile bool ends;
    /* What the handlers touch: a page for each signal's number. */
    char *touched;
    atomic_long handled, out_of_order, by_timer;
    long wrong_calls, wrong_masks, interrupted;
};

static struct worker workers[THREADS];
static __thread struct worker *self;
static atomic_long alarms, broken;
static atomic_int finished;

/* A handler makes calls of its own, on memory that nobody else uses. */
static void use_memory(int signal) {
    int before = errno;
    char *page = self->touched + (signal % 64) * PAGE;
    if (page[8] != 0 && page[8] != (char)signal)
        broken++;
    page[8] = (char)signal;
    char *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED || *at != 0 || mprotect(at, PAGE, PROT_READ) != 0 || munmap(at, PAGE) != 0)
        broken++;
    errno = before;
}

/* Timers are set anew by their handlers: one that takes longer than the time between two signals must not be all that runs. */
static void set_timer(void) {
    const struct itimerspec soon = {{0, 0}, {0, 300000}};
    if (!self->ends && timer_settime(self->timer, 0, &soon, NULL) != 0)
        broken++;
}

static void set_alarm(void) {
    const struct itimerval soon = {{0, 0}, {0, 1100}};
    setitimer(ITIMER_REAL, &soon, NULL);
}

static void on_timer(int signal, siginfo_t *info, void *context) {
    (void)info, (void)context;
    self->by_timer++;
    use_memory(signal);
    set_timer();
}

static void on_number(int signal, siginfo_t *info, void *context) {
    (void)context;
    if (info->si_value.sival_int != self->handled)
        self->out_of_order++;
    self->handled++;
    use_memory(signal);
}

static void on_alarm(int signal) {
    alarms++;
    if (self)
        use_memory(signal);
    if (finished < THREADS)
        set_alarm();
}

static void install(int signal, void (*handler)(int, siginfo_t *, void *)) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    /* One at a time on the alternate stack is enough. */
    sigaddset(&action.sa_mask, TIMER);
    sigaddset(&action.sa_mask, NUMBERED);
    sigaddset(&action.sa_mask, SIGALRM);
    sigaction(signal, &action, NULL);
}

static void ring(bool restarts) {
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_ONSTACK | (restarts ? SA_RESTART : 0)};
    sigaddset(&action.sa_mask, TIMER);
    sigaddset(&action.sa_mask, NUMBERED);
    sigaction(SIGALRM, &action, NULL);
}

static void start_timer(void) {
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TIMER};
    event._sigev_un._tid = self->tid;
    if (timer_create(CLOCK_MONOTONIC, &event, &self->timer) != 0)
        fail("timer");
    set_timer();
}

static void make(const struct call *call, struct ground *ground) {
    uint64_t mask = blocked_signals();
    entering(call->name);
    errno = 0;
    if (!call->make(ground)) {
        self->wrong_calls++;
        printf("%s: wrong\n", call->name);
    }
    /* To wait for a child is the one call that may be. */
    self->interrupted += !call->rare && errno == EINTR;
    self->wrong_masks += blocked_signals() != mask;
}

static void *work(void *given) {
    struct ground ground;
    self = given;
    stack_t stack = {.ss_sp = map_memory(64 * KIB), .ss_size = 64 * KIB};
    sigaltstack(&stack, NULL);
    self->touched = map_memory(64 * PAGE);
    make_ground(&ground);
    self->tid = syscall(SYS_gettid);
    start_timer();
    for (long round = 0; round < ROUNDS || self->handled < QUEUED || self->by_timer < TIMED || alarms < ALARMS; round++)
        for (size_t i = 0; i < call_count; i++)
            if (!calls[i].rare || (round < RARE_ROUNDS && round % THREADS == self - workers))
                make(&calls[i], &ground);
    self->ends = true;
    timer_delete(self->timer);
    finished++;
    /* A handler may still be needed: for signals that were sent meanwhile. */
    while (finished < THREADS)
        usleep(1000);
    drop_ground(&ground);
    return NULL;
}

/* Numbers the signals of each thread. Where too many are pending the kernel refuses one, and it is sent again. */
static void *send(void *unused) {
    for (int number = 0; number < QUEUED; number++) {
        for (int i = 0; i < THREADS; i++)
            while (pthread_sigqueue(workers[i].thread, NUMBERED, (union sigval){.sival_int = number}) == EAGAIN)
                usleep(1000);
        if (number % 16 == 0)
            usleep(200);
        if (number == QUEUED / 2)
            ring(false);
    }
    return unused;
}

void storm(void) {
    pthread_t sender;
    const struct itimerval never = {{0, 0}, {0, 0}};
    install(TIMER, on_timer);
    install(NUMBERED, on_number);
    ring(true);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    for (int i = 0; i < THREADS; i++)
        while (workers[i].tid == 0)
            usleep(1000);
    /* Only the threads that work are in the storm. */
    block_signals(~0UL);
    pthread_create(&sender, NULL, send, NULL);
    set_alarm();
    pthread_join(sender, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    setitimer(ITIMER_REAL, &never, NULL);
    for (int i = 0; i < THREADS; i++) {
        struct worker *w = &workers[i];
        printf("thread %d: %ld of %d signals handled, %ld out of order; calls: %ld wrong, %ld interrupted, %ld masks changed\n",
               i, w->handled, QUEUED, w->out_of_order, w->wrong_calls, w->interrupted, w->wrong_masks);
    }
    printf("handlers: %ld things wrong\n", broken);
}
