/* Calls on the process rather than on a range: its heap's end, prctl, locks on all memory. There is one process for both zones, so
   each zone has its turn, and leaves things as they were; a lock on all memory is for the kernel's zone one on each mapping. */
#include "differential.h"

#include <sys/prctl.h>

/* Not in every libc's headers. */
#define SET_VMA 0x53564d41
#define HEAP_SEED 300
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct {
    /* What holds for mappings to come: nothing, or the flags of mlock2 with which they are locked. */
    bool future;
    long flags;
} locks;

/* The kernel's heap, or the one of the library's. */
static char *heap_end(const struct zone *zone) {
    return zone->way == &by_kernel ? (char *)CALL(&by_kernel, SYS_brk, 0) : (char *)syscall(SYS_brk, 0);
}

/* Moves the end of the heap. Whether that was refused: libc's function does not always tell. */
static long move_end(const struct zone *zone, char *to) {
    CALL(zone->way, SYS_brk, (long)to);
    return heap_end(zone) != to;
}

/* Words of the pages from `first` up to `end` that are not what was written below `written`, or zero above. */
static size_t wrong_heap(char *first, char *end, char *written) {
    static const char zeroes[PAGE];
    size_t wrong = 0;
    for (char *page = first; page + PAGE <= end; page += PAGE)
        wrong += page + PAGE <= written ? wrong_words(page, PAGE, HEAP_SEED + (page - first) / PAGE)
                                        : memcmp(page, zeroes, PAGE) != 0;
    return wrong;
}

/* Grows the heap above what is the program's own, and makes it larger or smaller twice. What is beyond its end can't be touched. */
static long stretch_heap(const struct zone *zone, const long *sizes) {
    char *base = heap_end(zone), *first = (char *)(((unsigned long)base + PAGE - 1) & -PAGE);
    char *written = first;
    long refused = 0, wrong = 0, signals = 0;
    for (int i = 0; i < 3; i++) {
        char *end = base + sizes[i];
        refused = refused * 2 + move_end(zone, end);
        if (heap_end(zone) != end)
            continue;
        wrong += wrong_heap(first, end, written < end ? written : end);
        for (written = first; written + PAGE <= end; written += PAGE)
            write_contents(written, PAGE, HEAP_SEED + (written - first) / PAGE);
        struct touched beyond;
        touch((char *)(((unsigned long)end + PAGE - 1) & -PAGE), READ, &beyond);
        signals = signals * 100 + beyond.number + beyond.code;
    }
    /* It does not end below its beginning, nor where there are no addresses. */
    refused = refused * 2 + move_end(zone, (char *)PAGE);
    refused = refused * 2 + move_end(zone, (char *)(1L << 47));
    refused = refused * 2 + move_end(zone, base);
    return refused * 1000000000 + (wrong != 0) * 10000000 + signals;
}

static long set_control(struct zone *zone, const long *given) {
    static const char bad[] = "no [brackets]", good[] = "a name";
    static char longest[200];
    memset(longest, 'x', sizeof longest - 1);
    const long names[] = {0, 0, 0, (long)bad, (long)longest, 8, (long)good};
    long args[6] = {given[0], given[1], given[2], given[3], given[4]};
    if (args[0] == SET_VMA) {
        args[2] += (long)zone->base;
        args[4] = names[given[4]];
        /* Names split mappings of the kernel's, and none of ours: here only nothing is given one. */
        if (args[4] == (long)good)
            args[3] = 0;
    } else if (args[0] == PR_SET_THP_DISABLE) {
        args[2] = args[3] = args[4] = 0;
    } else {
        args[1] += (long)zone->base;
        args[2] = args[3] = args[4] = 0;
    }
    if (args[0] == PR_GET_DUMPABLE || args[0] == PR_GET_THP_DISABLE)
        args[1] = 0;
    char before[16] = "", after[16] = "";
    prctl(PR_GET_NAME, before);
    long result = CALL(zone->way, SYS_prctl, args[0], args[1], args[2], args[3], args[4]);
    prctl(PR_GET_NAME, after);
    prctl(PR_SET_NAME, before);
    for (size_t i = 0; args[0] == PR_SET_NAME && result == 0 && i < sizeof after; i++)
        result = (result * 31 + (unsigned char)after[i]) & 0xffffff;
    return result;
}

static void make_control(long *args, long place, long length, long choice) {
    static const long options[] = {SET_VMA, SET_VMA, SET_VMA, PR_GET_NAME, PR_SET_NAME, PR_GET_PDEATHSIG, PR_GET_TSC,
                                   PR_GET_CHILD_SUBREAPER, PR_GET_TID_ADDRESS, PR_SET_THP_DISABLE, PR_GET_THP_DISABLE,
                                   PR_GET_DUMPABLE};
    args[0] = options[choice % COUNT(options)];
    choice /= COUNT(options);
    if (args[0] == SET_VMA) {
        args[1] = choice % 16 == 0;
        args[2] = place;
        args[3] = length;
        args[4] = choice % 7;
    } else {
        args[1] = args[0] == PR_SET_THP_DISABLE ? choice % 2 : place;
    }
}

void make_whole(long number, long *args, long place, long length, long choice) {
    static const long flags[] = {MCL_CURRENT, MCL_CURRENT | MCL_ONFAULT, MCL_CURRENT | MCL_FUTURE, MCL_FUTURE,
                                 MCL_FUTURE | MCL_ONFAULT, 0, MCL_ONFAULT, 8, MCL_CURRENT | 16};
    memset(args, 0, 6 * sizeof *args);
    if (number == SYS_prctl)
        make_control(args, place, length, choice);
    if (number == SYS_mlockall)
        args[0] = flags[choice % COUNT(flags)];
    for (int i = 0; number == SYS_brk && i < 3; i++, choice /= 64)
        args[i] = choice % 64 * (long)PAGE / 2 + choice % 3;
}

/* Each mapping of the kernel's zone is locked, or unlocked. */
static void lock_each(struct zone *zone, bool locked, long flags) {
    char *low = zone->base - BEFORE_PAGES * PAGE, *high = low + ZONE;
    read_mappings();
    for (char *at = low; at < high; at += PAGE) {
        if (!mapping_at(at))
            continue;
        if (locked)
            CALL(zone->way, SYS_mlock2, (long)at, PAGE, flags);
        else
            CALL(zone->way, SYS_munlock, (long)at, PAGE);
    }
}

static long lock_all(struct zone *zone, long flags) {
    const long known = MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT;
    if (zone->way != &by_kernel || flags & ~known || !(flags & (MCL_CURRENT | MCL_FUTURE)))
        return CALL(zone->way, SYS_mlockall, flags);
    locks.future = flags & MCL_FUTURE;
    locks.flags = flags & MCL_ONFAULT ? MLOCK_ONFAULT : 0;
    if (flags & MCL_CURRENT)
        lock_each(zone, true, locks.flags);
    return 0;
}

static long unlock_all(struct zone *zone) {
    if (zone->way != &by_kernel)
        return CALL(zone->way, SYS_munlockall, 0);
    locks.future = false;
    lock_each(zone, false, 0);
    return 0;
}

bool is_whole(long number) {
    return number == SYS_brk || number == SYS_prctl || number == SYS_mlockall || number == SYS_munlockall;
}

long perform_whole(struct zone *zone, long number, const long *args) {
    switch (number) {
    case SYS_brk:
        return stretch_heap(zone, args);
    case SYS_prctl:
        return set_control(zone, args);
    case SYS_mlockall:
        return lock_all(zone, args[0]);
    }
    return unlock_all(zone);
}

/* The library locks what it manages and has rights: of memory without any nothing is there, and what is not managed does not leave. */
bool may_lock_all(const struct zone *zone, bool has_stack) {
    const char *low = zone->base - BEFORE_PAGES * PAGE;
    read_mappings();
    for (const char *at = low; at < low + ZONE; at += PAGE) {
        const struct mapping *mapping = mapping_at(at);
        if (mapping && (!mapping->plain || strncmp(mapping->rights, "---", 3) == 0))
            return false;
    }
    return !has_stack;
}

bool locks_what_comes(void) {
    return locks.future;
}

void lock_what_came(struct zone *zone, long at, long length) {
    if (locks.future && zone->way == &by_kernel && at > 0)
        CALL(zone->way, SYS_mlock2, at, length, locks.flags);
}

void end_whole(struct zone *ours) {
    locks.future = false;
    CALL(ours->way, SYS_munlockall, 0);
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
}
