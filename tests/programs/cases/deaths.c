/* What the kernel reads or writes when a thread dies, in memory that would be evicted by then: whoever waits is told.
   Arguments: the kind, and what else is so. A wait that nobody ends is told after some seconds. */
#include "case.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>

enum { LOCKS = 48, WAITERS = 6, GAP = 32 * 1024, PRESSURE = 40 * 1024 * 1024, PATIENCE = 8 };

static atomic_int ready, go;

static void until(atomic_int *word, int value) {
    while (atomic_load(word) < value)
        usleep(500);
}

/* All but what is kept goes out: at once where it is asked for, and by pressure. */
static void evict(void *at, size_t bytes) {
    press(PRESSURE);
    madvise(at, bytes, MADV_PAGEOUT);
    usleep(20000);
}

static struct timespec from_now(int seconds) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    time.tv_sec += seconds;
    return time;
}

static const char *name_of(int error) {
    return error == 0 ? "locked" : error == EOWNERDEAD ? "owner dead" : error == ETIMEDOUT ? "time out" : strerror(error);
}

/* Mutexes, each on a page of its own among other contents. */
static char *field;
static pthread_mutex_t *locks[LOCKS];

static void make_locks(int robust, int inherit) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    if (robust)
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (inherit)
        pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    field = map_memory(LOCKS * GAP);
    write_contents(field, LOCKS * GAP, 1);
    for (int i = 0; i < LOCKS; i++) {
        /* Every eighth lies across the edge of two pages. */
        size_t in = i % 8 == 7 ? 2 * PAGE - 24 : PAGE * (i % 7) + 64 * (i % 5);
        locks[i] = (pthread_mutex_t *)(field + (size_t)i * GAP + in);
        pthread_mutex_init(locks[i], &attributes);
    }
}

/* Takes all of them and ends without giving one back. */
static void *hold_until_death(void *how) {
    for (int i = 0; i < LOCKS; i++)
        pthread_mutex_lock(locks[i]);
    atomic_fetch_add(&ready, 1);
    until(&go, 1);
    if (how != NULL)
        pthread_exit(how);
    return NULL;
}

static void *wait_for_lock(void *lock) {
    atomic_fetch_add(&ready, 1);
    int error = pthread_mutex_lock(lock);
    if (error == EOWNERDEAD)
        pthread_mutex_consistent(lock);
    if (error == 0 || error == EOWNERDEAD)
        pthread_mutex_unlock(lock);
    return (void *)name_of(error);
}

static void join_within(pthread_t thread, const char *who) {
    struct timespec end = from_now(PATIENCE);
    void *said = NULL;
    int error = pthread_timedjoin_np(thread, &said, &end);
    printf("%s: %s\n", who, error != 0 ? "waits for ever" : said != NULL ? (char *)said : "ended");
}

/* The owner of robust mutexes dies. With waiters, some threads sleep on the first of them meanwhile. */
static void owner_dies(int inherit, int waiters, int by_exit) {
    make_locks(1, inherit);
    pthread_t owner, waiting[WAITERS];
    pthread_create(&owner, NULL, hold_until_death, by_exit ? "left by pthread_exit" : NULL);
    until(&ready, 1);
    for (int i = 0; i < waiters; i++)
        pthread_create(&waiting[i], NULL, wait_for_lock, locks[i]);
    until(&ready, 1 + waiters);
    usleep(50000);
    evict(field, LOCKS * GAP);
    atomic_store(&go, 1);
    join_within(owner, "owner");
    for (int i = 0; i < waiters; i++)
        join_within(waiting[i], "waiter");
    for (int i = waiters; i < LOCKS; i++) {
        struct timespec end = from_now(i > 2 ? 0 : 1);
        int error = pthread_mutex_timedlock(locks[i], &end);
        printf("lock %d: %s\n", i, name_of(error));
        if (error != EOWNERDEAD)
            return;
        pthread_mutex_consistent(locks[i]);
        pthread_mutex_unlock(locks[i]);
        pthread_mutex_destroy(locks[i]);
    }
}

/* Threads wait for mutexes whose pages would be out when they are given back. */
static void waits(int inherit) {
    make_locks(0, inherit);
    pthread_t waiting[WAITERS];
    for (int i = 0; i < WAITERS; i++)
        pthread_mutex_lock(locks[i]);
    for (int i = 0; i < WAITERS; i++)
        pthread_create(&waiting[i], NULL, wait_for_lock, locks[i]);
    until(&ready, WAITERS);
    usleep(50000);
    evict(field, LOCKS * GAP);
    for (int i = 0; i < WAITERS; i++)
        pthread_mutex_unlock(locks[i]);
    for (int i = 0; i < WAITERS; i++)
        join_within(waiting[i], "waiter");
}

/* Futexes by number: each operation finds its words out. What is not shared the kernel reads and writes in other ways. */
static long futex(void *word, int operation, uint32_t value, void *timeout, void *second, uint32_t third) {
    return syscall(SYS_futex, word, operation, value, timeout, second, third);
}

static void *wake_later(void *word) {
    usleep(300000);
    return (void *)(futex(word, FUTEX_WAKE, 9, NULL, NULL, 0) == 1 ? "woke one" : "woke none");
}

static void futexes(void) {
    size_t bytes = 64 * KIB;
    char *at = map_memory(bytes);
    write_contents(at, bytes, 2);
    uint32_t *word = (uint32_t *)(at + 5 * PAGE), *second = (uint32_t *)(at + 9 * PAGE);
    uint32_t *inherited = (uint32_t *)(at + 12 * PAGE);
    *word = 5, *second = 7, *inherited = 0;
    struct timespec wait = {PATIENCE, 0};
    pthread_t waker;
    pthread_create(&waker, NULL, wake_later, word);
    evict(at, bytes);
    printf("wait for another value %ld\n", futex(word, FUTEX_WAIT, 6, &wait, NULL, 0));
    madvise(at, bytes, MADV_PAGEOUT);
    join_within(waker, "waker");
    pthread_create(&waker, NULL, wake_later, word);
    madvise(at, bytes, MADV_PAGEOUT);
    printf("wait %ld\n", futex(word, FUTEX_WAIT, 5, &wait, NULL, 0));
    join_within(waker, "waker");
    for (int i = 0; i < 3; i++) {
        madvise(at, bytes, MADV_PAGEOUT);
        int add = FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 7);
        long woken = futex(word, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 1, (void *)1, second, (uint32_t)add);
        printf("wake and add %ld %s, then %u\n", woken, woken < 0 ? strerror(errno) : "", *second);
        madvise(at, bytes, MADV_PAGEOUT);
        long locked = futex(inherited, FUTEX_LOCK_PI | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0);
        printf("lock %ld %s\n", locked, locked < 0 ? strerror(errno) : "");
        madvise(at, bytes, MADV_PAGEOUT);
        long freed = futex(inherited, FUTEX_UNLOCK_PI | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0);
        printf("unlock %ld %s\n", freed, freed < 0 ? strerror(errno) : "");
    }
}

/* A thread library of one's own: its threads live on kernel stacks and use nothing of libc's but system calls. */
struct own_thread {
    atomic_int *word; /* cleared by the kernel at the end */
    int by_call;      /* the word is named by set_tid_address rather than by clone */
    struct robust_list_head *list;
    int rseq; /* registers an area for rseq beside the word */
    uint32_t *lock; /* a futex with priority inheritance, to be held at the end */
};

static int own_body(void *argument) {
    struct own_thread *self = argument;
    if (self->by_call)
        syscall(SYS_set_tid_address, self->word);
    if (self->list != NULL)
        syscall(SYS_set_robust_list, self->list, sizeof *self->list);
    if (self->rseq)
        syscall(SYS_rseq, (char *)self->word + 1024, 32, 0, 0x53053053);
    if (self->lock != NULL)
        futex(self->lock, FUTEX_LOCK_PI | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0);
    atomic_fetch_add(&ready, 1);
    while (atomic_load(&go) == 0)
        futex(&go, FUTEX_WAIT, 0, NULL, NULL, 0);
    syscall(SYS_exit, 0);
    return 0;
}

static int start_own(struct own_thread *thread) {
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    int protection = PROT_READ | PROT_WRITE, kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK;
    char *stack = mmap(NULL, 256 * KIB, protection, kind, -1, 0);
    if (!thread->by_call)
        flags |= CLONE_CHILD_CLEARTID;
    int tid = clone(own_body, stack + 256 * KIB, flags, thread, NULL, NULL, thread->word);
    if (tid < 0)
        fail("clone");
    return tid;
}

/* The kernel says it with a shared wake. */
static void await_clear(atomic_int *word, const char *which) {
    struct timespec wait = {PATIENCE, 0};
    long error = 0;
    while (atomic_load(word) == 77 && error == 0)
        error = futex(word, FUTEX_WAIT, 77, &wait, NULL, 0) < 0 && errno == ETIMEDOUT;
    printf("%s: %s\n", which, error ? "waits for ever" : atomic_load(word) == 0 ? "cleared" : "other");
}

static void own_threads(void) {
    enum { THREADS = 6 };
    static const char *names[] = {"word of clone", "word by set_tid_address"};
    struct own_thread threads[THREADS] = {0};
    char *at = map_memory(THREADS * GAP);
    write_contents(at, THREADS * GAP, 3);
    for (int i = 0; i < THREADS; i++) {
        threads[i].word = (atomic_int *)(at + (size_t)i * GAP + PAGE * i + 128);
        threads[i].by_call = i % 2, threads[i].rseq = i >= 4;
        atomic_store(threads[i].word, 77);
        start_own(&threads[i]);
    }
    until(&ready, THREADS);
    evict(at, THREADS * GAP);
    atomic_store(&go, 1);
    futex(&go, FUTEX_WAKE, 99, NULL, NULL, 0);
    for (int i = 0; i < THREADS; i++)
        await_clear(threads[i].word, names[threads[i].by_call]);
}

/* A robust list of one's own: a head, and entries with their futex behind them. */
struct own_lock {
    struct robust_list entry;
    uint32_t word;
};

static void own_list(void) {
    /* The last is not on the list yet: it is pending, which the head says, and by its lowest bit that it inherits. */
    enum { ENTRIES = 9, ALL = ENTRIES + 1 };
    char *at = map_memory((ALL + 1) * GAP);
    write_contents(at, (ALL + 1) * GAP, 4);
    struct robust_list_head *head = (struct robust_list_head *)(at + 3 * PAGE);
    struct own_lock *lock[ALL];
    struct own_thread thread = {.word = (atomic_int *)(at + 5 * PAGE), .list = head};
    atomic_store(thread.word, 77);
    struct robust_list *next = &head->list;
    for (int i = ALL - 1; i >= 0; i--)
        lock[i] = (struct own_lock *)(at + (size_t)(i + 1) * GAP + (size_t)i % 8 * PAGE);
    for (int i = ENTRIES - 1; i >= 0; i--) {
        lock[i]->entry.next = next;
        next = &lock[i]->entry;
    }
    head->list.next = next;
    head->list_op_pending = (struct robust_list *)((uintptr_t)&lock[ENTRIES]->entry | 1);
    head->futex_offset = (long)offsetof(struct own_lock, word);
    int tid = start_own(&thread);
    for (int i = 0; i < ALL; i++)
        lock[i]->word = (uint32_t)tid;
    until(&ready, 1);
    evict(at, (ALL + 1) * GAP);
    atomic_store(&go, 1);
    futex(&go, FUTEX_WAKE, 99, NULL, NULL, 0);
    await_clear(thread.word, "word of clone");
    for (int i = 0; i < ALL; i++)
        printf("entry %d: %s\n", i, lock[i]->word == FUTEX_OWNER_DIED ? "owner dead" : "as it was");
}

/* The owner of a futex with priority inheritance dies while another waits for it in the kernel, which writes its name. */
static void *lock_inherited(void *word) {
    atomic_fetch_add(&ready, 1);
    if (futex(word, FUTEX_LOCK_PI | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0) != 0)
        return strerror(errno);
    uint32_t mine = (uint32_t)syscall(SYS_gettid) | FUTEX_OWNER_DIED;
    return *(uint32_t *)word == mine ? "has it, and knows" : "has it";
}

static void own_owner(void) {
    char *at = map_memory(GAP);
    write_contents(at, GAP, 6);
    struct own_thread owner = {.word = (atomic_int *)at, .lock = (uint32_t *)(at + 3 * PAGE)};
    *owner.lock = 0;
    start_own(&owner);
    until(&ready, 1);
    pthread_t waiting;
    pthread_create(&waiting, NULL, lock_inherited, owner.lock);
    until(&ready, 2);
    usleep(50000);
    evict(at, GAP);
    atomic_store(&go, 1);
    futex(&go, FUTEX_WAKE, 99, NULL, NULL, 0);
    join_within(waiting, "waiter");
}

/* Threads of libc's on stacks that the program made: libc's own words lie on them. */
enum { ON_STACKS = 8, STACK_BYTES = 128 * 1024, ROUNDS = 60 };
static pthread_mutex_t fixed[ON_STACKS];
static atomic_int taken;
static char *stacks;

/* They go out again and again while their threads end. */
static void *keep_out(void *done) {
    while (atomic_load((atomic_int *)done) == 0)
        madvise(stacks, ON_STACKS * STACK_BYTES, MADV_PAGEOUT);
    return NULL;
}

static void *on_own_stack(void *argument) {
    int mine = atomic_fetch_add(&taken, 1) % ON_STACKS;
    pthread_mutex_lock(&fixed[mine]);
    char frame[20000];
    memset(frame, mine, sizeof frame);
    atomic_fetch_add(&ready, 1);
    while (atomic_load(&go) == 0)
        futex(&go, FUTEX_WAIT, 0, NULL, NULL, 0);
    for (size_t i = 0; i < sizeof frame; i++)
        if (frame[i] != mine)
            return "its frame has changed";
    if (mine % 2)
        pthread_exit(argument);
    return argument;
}

static int one_round(void) {
    pthread_t threads[ON_STACKS];
    pthread_mutexattr_t robust;
    pthread_mutexattr_init(&robust);
    pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
    atomic_store(&ready, 0), atomic_store(&go, 0);
    for (size_t i = 0; i < ON_STACKS; i++)
        pthread_mutex_init(&fixed[i], &robust);
    for (size_t i = 0; i < ON_STACKS; i++) {
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setstack(&attributes, stacks + i * STACK_BYTES, STACK_BYTES);
        if (pthread_create(&threads[i], &attributes, on_own_stack, "as it should") != 0)
            fail("pthread_create");
    }
    until(&ready, ON_STACKS);
    madvise(stacks, ON_STACKS * STACK_BYTES, MADV_PAGEOUT);
    atomic_store(&go, 1);
    futex(&go, FUTEX_WAKE, 99, NULL, NULL, 0);
    int dead = 0;
    for (int i = 0; i < ON_STACKS; i++) {
        struct timespec end = from_now(PATIENCE);
        void *said = NULL;
        if (pthread_timedjoin_np(threads[i], &said, &end) != 0)
            return -1;
        if (strcmp(said, "as it should") != 0)
            return -2;
    }
    for (int i = 0; i < ON_STACKS; i++) {
        struct timespec end = from_now(0);
        dead += pthread_mutex_timedlock(&fixed[i], &end) == EOWNERDEAD;
    }
    return dead;
}

static void own_stacks(void) {
    atomic_int done = 0;
    stacks = map_memory(ON_STACKS * STACK_BYTES);
    press(PRESSURE);
    pthread_t evicts;
    pthread_create(&evicts, NULL, keep_out, &done);
    for (int round = 0; round < ROUNDS; round++) {
        int dead = one_round();
        printf("round %d: %d\n", round, dead);
        if (dead != ON_STACKS)
            _exit(1);
    }
    atomic_store(&done, 1);
    pthread_join(evicts, NULL);
}

/* Kept memory that moves, grows, is dropped and used anew. */
static void moves(void) {
    make_locks(1, 0);
    pthread_t owner;
    pthread_create(&owner, NULL, hold_until_death, NULL);
    until(&ready, 1);
    /* What is kept is dropped with its memory, and its addresses are nothing special. */
    char *other = map_memory(MIB);
    pthread_mutexattr_t robust;
    pthread_mutexattr_init(&robust);
    pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
    for (size_t at = 0; at < MIB; at += PAGE)
        pthread_mutex_init((pthread_mutex_t *)(other + at), &robust);
    char *moved = mremap(other, MIB, 3 * MIB, MREMAP_MAYMOVE);
    pthread_mutex_t *first = (pthread_mutex_t *)moved;
    munmap(moved + 2 * PAGE, 3 * MIB - 2 * PAGE);
    evict(moved, 2 * PAGE);
    printf("moved: %s\n", name_of(pthread_mutex_trylock(first)));
    printf("destroyed: %d\n", pthread_mutex_destroy((pthread_mutex_t *)(moved + PAGE)));
    evict(field, LOCKS * GAP);
    atomic_store(&go, 1);
    join_within(owner, "owner");
    printf("lock: %s\n", name_of(pthread_mutex_trylock(locks[LOCKS - 1])));
}

/* A thousand robust mutexes, each on a page of its own, in a budget of four thousand pages. */
static void many(void) {
    enum { MANY = 1000 };
    pthread_mutexattr_t robust;
    pthread_mutexattr_init(&robust);
    pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
    char *at = map_memory(MANY * PAGE);
    write_contents(at, MANY * PAGE, 5);
    for (size_t i = 0; i < MANY; i++)
        pthread_mutex_init((pthread_mutex_t *)(at + i * PAGE), &robust);
    press(48 * MIB);
    size_t wrong = 0;
    for (size_t i = 0; i < MANY; i++) {
        pthread_mutex_t *mutex = (pthread_mutex_t *)(at + i * PAGE);
        wrong += pthread_mutex_lock(mutex) != 0;
        pthread_mutex_unlock(mutex);
        pthread_mutex_destroy(mutex);
        write_contents(at + i * PAGE, PAGE, i);
    }
    press(48 * MIB);
    for (size_t i = 0; i < MANY; i++)
        wrong += wrong_words(at + i * PAGE, PAGE, i);
    printf("%zu wrong\n", wrong);
}

int main(int count, char **arguments) {
    const char *kind = count > 1 ? arguments[1] : "";
    int inherit = count > 2 && strstr(arguments[2], "pi") != NULL;
    int waiters = count > 2 && strstr(arguments[2], "waiters") != NULL ? WAITERS : 0;
    int by_exit = count > 2 && strstr(arguments[2], "exit") != NULL;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(kind, "robust") == 0)
        owner_dies(inherit, waiters, by_exit);
    else if (strcmp(kind, "wait") == 0)
        waits(inherit);
    else if (strcmp(kind, "futex") == 0)
        futexes();
    else if (strcmp(kind, "own-threads") == 0)
        own_threads();
    else if (strcmp(kind, "own-list") == 0)
        own_list();
    else if (strcmp(kind, "own-owner") == 0)
        own_owner();
    else if (strcmp(kind, "own-stacks") == 0)
        own_stacks();
    else if (strcmp(kind, "moves") == 0)
        moves();
    else if (strcmp(kind, "many") == 0)
        many();
    else
        return 2;
    _exit(0);
}
