/* Random sequences of calls on one zone of the kernel's memory and one of the library's: after each call the same result,
   and each page is touched: the same contents, or the same signal. A sequence that ends otherwise is shortened, and
   printed with its seed. */
#include "differential.h"

#include <sys/wait.h>

#define MOST_STEPS 64
/* Sequences that differ, after which no more are tried. */
#define ENOUGH 2
#define P ((long)PAGE)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define FIRST (-8)
#define LAST 24

/* Steps that are no calls. */
enum { STORE = 200001, PUT, TAKE, FORK, AWAY };

struct step {
    long number;
    long args[6];
};

static struct zone kernel, ours;
static struct walk_options options;
static uint64_t state;
/* Why the last sequence differed. */
static char why[512];
/* Whether there may be a mapping of a stack, which is the kernel's. */
static bool has_stack;

static uint64_t next(void) {
    state += 0x9e3779b97f4a7c15u;
    uint64_t mixed = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
}

static long below(long bound) {
    return next() % bound;
}

#define ONE_OF(array) ((array)[below(COUNT(array))])

/* An offset from the base, mostly of whole pages. */
static long some_place(void) {
    long at = (FIRST + below(LAST - FIRST)) * P;
    return below(12) == 0 ? at + 1 + below(P - 1) : at;
}

/* Bytes, no more than what lies behind the window in the zone; one in four is no multiple of a page. */
static long some_length(void) {
    if (below(40) == 0)
        return 0;
    long length = (1 + below(below(3) ? 6 : 16)) * P;
    return below(4) == 0 ? length - 1 - below(P - 1) : length;
}

static void make_map(struct step *step) {
    static const long rights[] = {PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE,
                                  PROT_READ | PROT_WRITE | PROT_EXEC};
    static const long kinds[] = {MAP_PRIVATE | MAP_ANONYMOUS, MAP_PRIVATE | MAP_ANONYMOUS, MAP_PRIVATE | MAP_ANONYMOUS,
                                 MAP_SHARED | MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK};
    static const long places[] = {MAP_FIXED, MAP_FIXED, MAP_FIXED, MAP_FIXED, MAP_FIXED_NOREPLACE};
    step->args[1] = some_length();
    step->args[2] = ONE_OF(rights);
    step->args[3] = ONE_OF(kinds) | ONE_OF(places);
    step->args[5] = below(8) * P + (below(20) == 0 ? 1 : 0);
    if (below(30) == 0)
        step->args[3] &= ~(long)MAP_PRIVATE & ~(long)MAP_SHARED;
}

static void make_remap(struct step *step) {
    static const long flags[] = {0, MREMAP_MAYMOVE, MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_MAYMOVE | MREMAP_FIXED,
                                 MREMAP_MAYMOVE | 4, MREMAP_MAYMOVE | MREMAP_FIXED | 4, MREMAP_FIXED, 4, 8};
    step->args[1] = some_length();
    step->args[2] = below(2) ? step->args[1] : some_length();
    step->args[3] = ONE_OF(flags);
    step->args[4] = some_place();
}

static void make_step(struct step *step) {
    static const long calls[] = {
        SYS_mmap,    SYS_mmap,    SYS_mmap,    SYS_munmap,  SYS_munmap,   SYS_mremap, SYS_mremap, SYS_mremap,    SYS_mremap,
        SYS_mprotect, SYS_mprotect, SYS_mprotect, SYS_madvise, SYS_madvise, SYS_madvise, SYS_mincore, SYS_msync, SYS_mlock,
        SYS_mlock2,  SYS_munlock, POSIX_MADVISE, SYS_pkey_mprotect, STORE, STORE, STORE, STORE, PUT, TAKE, FORK, AWAY, AWAY, AWAY,
        SYS_brk,     SYS_prctl,   SYS_prctl,
    };
    /* Not those that ruin memory, nor guards, which are refused. */
    static const long advices[] = {0, 1, 2, 3, 4, 4, 4, 8, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 50, -1};
    static const long rights[] = {PROT_NONE, PROT_READ, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE,
                                  PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC, PROT_WRITE, PROT_READ | 0x10};
    static const long sync[] = {0, MS_ASYNC, MS_SYNC, MS_INVALIDATE, MS_ASYNC | MS_SYNC, 8};
    *step = (struct step){.number = ONE_OF(calls), .args = {some_place(), some_length()}};
    /* What is locked does not leave: not too often. */
    if (step->number == SYS_munlock && below(2))
        step->number = below(2) ? SYS_mlockall : SYS_munlockall;
    if (is_whole(step->number))
        make_whole(step->number, step->args, step->args[0], step->args[1], below(1L << 40));
    switch (step->number) {
    case SYS_mmap:
        make_map(step);
        break;
    case SYS_mremap:
        make_remap(step);
        break;
    case SYS_mprotect:
        step->args[2] = ONE_OF(rights);
        break;
    case SYS_pkey_mprotect:
        step->args[2] = ONE_OF(rights);
        step->args[3] = -1;
        break;
    case SYS_madvise:
        step->args[2] = ONE_OF(advices);
        break;
    case POSIX_MADVISE:
        step->args[2] = below(7) - 1;
        break;
    case SYS_msync:
        step->args[2] = ONE_OF(sync);
        break;
    case SYS_mlock2:
        step->args[2] = below(3);
        break;
    case STORE:
    case PUT:
    case TAKE:
        step->args[2] = 1000 + below(1000000);
        break;
    }
}

/* Which of a page's accesses do not end in a signal; the page keeps its contents. */
static void touch_page(const struct zone *zone, long page, struct touched *read, struct touched *written) {
    char *at = zone->base + page * PAGE + 8 * ((page & 63) + 1);
    touch(at, READ, read);
    touch(at, WRITE, written);
}

static bool is_writable(const struct zone *zone, long page) {
    struct touched written;
    touch(zone->base + page * PAGE, WRITE, &written);
    return written.number == 0;
}

static bool same_touch(const struct touched *a, const struct touched *b) {
    return a->number == b->number && a->code == b->code && a->offset == b->offset;
}

/* Whether all pages of both zones are alike; else `why` says which is not. */
static bool are_alike(void) {
    for (long page = -BEFORE_PAGES; page < ZONE_PAGES - BEFORE_PAGES; page++) {
        struct touched seen[4];
        touch_page(&kernel, page, &seen[0], &seen[1]);
        touch_page(&ours, page, &seen[2], &seen[3]);
        for (int i = 0; i < 2; i++)
            if (!same_touch(&seen[i], &seen[i + 2])) {
                snprintf(why, sizeof why, "%s of page %ld: the kernel: signal %d code %d at %+ld; ours: signal %d code %d at %+ld",
                         i ? "write" : "read", page, seen[i].number, seen[i].code, seen[i].offset, seen[i + 2].number,
                         seen[i + 2].code, seen[i + 2].offset);
                return false;
            }
        const uint64_t *one = (void *)(kernel.base + page * PAGE), *other = (void *)(ours.base + page * PAGE);
        if (seen[0].number == 0 && memcmp(one, other, PAGE) != 0) {
            size_t word = 0;
            while (one[word] == other[word])
                word++;
            snprintf(why, sizeof why, "contents of page %ld, word %zu: the kernel: %lx; ours: %lx", page, word, one[word],
                     other[word]);
            return false;
        }
    }
    return true;
}

/* Writes what the step says into each page of its range that can be written. */
static void store(struct zone *zone, const struct step *step) {
    for (long page = step->args[0] / P; page <= (step->args[0] + step->args[1]) / P; page++)
        if (page < ZONE_PAGES - BEFORE_PAGES && is_writable(zone, page))
            write_contents(zone->base + page * PAGE, PAGE, step->args[2] + page);
}

/* How much of a range the kernel reads from, or writes to, before it finds what it may not touch. */
static long through_pipe(struct zone *zone, const struct step *step, bool from) {
    static char contents[16 * PAGE];
    int ends[2];
    if (pipe(ends) != 0)
        fail("pipe");
    long length = step->args[1] < (long)sizeof contents ? step->args[1] : (long)sizeof contents;
    char *at = zone->base + step->args[0];
    long result;
    if (from) {
        result = write(ends[1], at, length);
    } else {
        write_contents(contents, sizeof contents, step->args[2]);
        if (write(ends[1], contents, length) != length)
            fail("write");
        result = read(ends[0], at, length);
    }
    result = result < 0 ? -errno : result;
    close(ends[0]);
    close(ends[1]);
    return result;
}

/* A child finds in both zones what it is to find there. */
static long look_in_child(void) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        bool alike = are_alike();
        if (!alike)
            printf("in a child: %s\n", why);
        fflush(stdout);
        _exit(alike ? 0 : 1);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        fail("fork");
    return status;
}

/* Where a result lies: an offset in the zone, or elsewhere; what is there is unmapped again. */
static long placed(struct zone *zone, const struct step *step, long result) {
    const long elsewhere = 1L << 40;
    if (result < 0)
        return result;
    char *at = (char *)result;
    const char *low = zone->base - BEFORE_PAGES * PAGE;
    if (at >= low && at < low + ZONE)
        return at - zone->base;
    if (CALL(zone->way, SYS_munmap, result, step->args[step->number == SYS_mmap ? 1 : 2]) != 0)
        fail("munmap");
    return elsewhere;
}

static long perform(struct zone *zone, const struct step *step) {
    long args[6], result;
    memcpy(args, step->args, sizeof args);
    if (is_whole(step->number))
        return perform_whole(zone, step->number, args);
    args[0] += (long)zone->base;
    switch (step->number) {
    case SYS_mmap:
        args[4] = step->args[3] & MAP_ANONYMOUS ? -1 : zone->file;
        result = zone->way->call(SYS_mmap, args);
        lock_what_came(zone, result, args[1]);
        return placed(zone, step, result);
    case SYS_mremap:
        if (step->args[3] & MREMAP_FIXED)
            args[4] += (long)zone->base;
        return placed(zone, step, zone->way->call(SYS_mremap, args));
    case SYS_mincore:
        args[2] = (long)zone->vector;
        return zone->way->call(SYS_mincore, args);
    case STORE:
        store(zone, step);
        return 0;
    case PUT:
        return through_pipe(zone, step, false);
    case TAKE:
        return through_pipe(zone, step, true);
    case AWAY:
        /* Out of memory, where the kernel might not do it: that changes nothing that can be seen. */
        CALL(zone->way, SYS_madvise, (long)(zone->base - BEFORE_PAGES * PAGE), ZONE, MADV_PAGEOUT);
        return 0;
    }
    return zone->way->call(step->number, args);
}

/* What a page of the window is, as the kernel knows of its own. */
static bool is_foreign(long page) {
    const struct mapping *mapping = mapping_at(kernel.base + page * PAGE);
    return mapping && !mapping->plain;
}

/* Those that are known to differ, as `ALLOWED` in differential.py says. */
static bool is_left_out(const struct step *step) {
    if (step->number == SYS_mlockall)
        return step->args[0] & MCL_CURRENT && !may_lock_all(&kernel, has_stack);
    if (step->number == SYS_mmap && step->args[3] & MAP_STACK)
        has_stack = true;
    if (step->number == SYS_mmap && locks_what_comes())
        return (step->args[3] & (MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK)) != (MAP_PRIVATE | MAP_ANONYMOUS) || !step->args[2];
    long first = step->args[0] >> 12, last = (step->args[0] + step->args[1] - 1) >> 12;
    if (step->number == SYS_madvise && step->args[2] == MADV_FREE) {
        /* What is dropped at some later time has to be written again at once. */
        for (long page = first; page <= last; page++)
            if (!is_writable(&kernel, page))
                return true;
    }
    if (step->number != SYS_mremap)
        return false;
    read_mappings();
    bool foreign = has_stack, locked = false;
    for (long page = first; page <= last; page++) {
        const struct mapping *mapping = mapping_at(kernel.base + page * PAGE);
        foreign |= is_foreign(page);
        locked |= mapping && mapping->locked;
    }
    /* A mapping of the kernel's does not grow where it is in the arena. */
    if (foreign && !(step->args[3] & MREMAP_FIXED) && step->args[2] > step->args[1] - step->args[1] % P)
        return true;
    /* Several mappings at once don't grow, nor move with another length or without a place; but ours are one where the kernel's
       differ in no more than what it counts (MAP_NORESERVE, what was never writable), merges or dumps. That is for the sets. */
    const struct mapping *front = mapping_at(kernel.base + first * P);
    bool fixed = step->args[3] & MREMAP_FIXED;
    bool is_for_one = fixed ? step->args[2] != step->args[1] : step->args[2] > step->args[1] || step->args[3] & 4;
    if (is_for_one && front && front->end <= kernel.base + last * P)
        return true;
    /* In the arena those move by MREMAP_DONTUNMAP, too. */
    return locked && (foreign || step->args[3] & 4);
}

static bool take_step(const struct step *step) {
    memset(kernel.vector, 0xee, sizeof kernel.vector);
    memset(ours.vector, 0xee, sizeof ours.vector);
    if (is_left_out(step))
        return true;
    if (step->number == FORK) {
        if (look_in_child() != 0)
            snprintf(why, sizeof why, "in a child");
        return why[0] == 0;
    }
    long expected = perform(&kernel, step), seen = perform(&ours, step);
    if (step->number == SYS_madvise && step->args[2] == MADV_FREE) {
        struct step again = {STORE, {step->args[0], step->args[1], 77}};
        store(&kernel, &again);
        store(&ours, &again);
    }
    if (expected != seen) {
        snprintf(why, sizeof why, "the kernel: %ld (%s); ours: %ld (%s)", expected, expected < 0 ? strerrorname_np(-expected) : "",
                 seen, seen < 0 ? strerrorname_np(-seen) : "");
        return false;
    }
    for (size_t page = 0; page < sizeof kernel.vector; page++)
        if ((kernel.vector[page] == 0xee) != (ours.vector[page] == 0xee)) {
            snprintf(why, sizeof why, "byte %zu of mincore's vector is written by one of them", page);
            return false;
        }
    return are_alike();
}

/* Rights and marks as the kernel tells of them, at the end. */
static bool are_marked_alike(void) {
    static char expected[4096], seen[4096];
    const struct set nothing = {.number = SYS_munlock};
    read_mappings();
    kernel.result = ours.result = 0;
    describe(&nothing, &kernel, (struct compared){.unnamed = true}, expected, sizeof expected);
    describe(&nothing, &ours, (struct compared){.unnamed = true}, seen, sizeof seen);
    if (strcmp(expected, seen) != 0)
        snprintf(why, sizeof why, "at the end: the kernel: %.200s; ours: %.200s", expected, seen);
    return why[0] == 0;
}

/* Whether a sequence ends alike on both. `*failed` is the step at which it does not. */
static bool run_steps(const struct layout *layout, const struct step *steps, size_t count, size_t *failed) {
    bool alike = true;
    why[0] = 0;
    has_stack = strcmp(layout->name, "stack-part") == 0;
    make_zone(&kernel, layout);
    make_zone(&ours, layout);
    give_file(&kernel);
    give_file(&ours);
    for (*failed = 0; *failed < count && alike; ++*failed)
        alike = take_step(&steps[*failed]);
    if (alike)
        alike = are_marked_alike();
    drop_zone(&kernel);
    drop_zone(&ours);
    end_whole(&ours);
    return alike;
}

static void print_step(const struct step *step) {
    static const struct {
        long number;
        const char *name;
    } names[] = {
        {SYS_mmap, "mmap"},       {SYS_munmap, "munmap"},   {SYS_mremap, "mremap"}, {SYS_mprotect, "mprotect"},
        {SYS_madvise, "madvise"}, {SYS_mincore, "mincore"}, {SYS_msync, "msync"},   {SYS_mlock, "mlock"},
        {SYS_brk, "brk"},         {SYS_prctl, "prctl"},     {SYS_mlockall, "mlockall"}, {SYS_munlockall, "munlockall"},
        {SYS_mlock2, "mlock2"},   {SYS_munlock, "munlock"}, {POSIX_MADVISE, "posix_madvise"},
        {SYS_pkey_mprotect, "pkey_mprotect"}, {STORE, "store"}, {PUT, "read"}, {TAKE, "write"}, {FORK, "fork"}, {AWAY, "pageout"},
    };
    for (size_t i = 0; i < COUNT(names); i++)
        if (names[i].number == step->number)
            printf("%s(", names[i].name);
    for (int i = 0; i < 6; i++)
        printf("%s%s0x%lx", i ? "," : "", step->args[i] < 0 ? "-" : "", labs(step->args[i]));
    printf(")");
}

/* Leaves out each step without which it still differs. */
static size_t shorten(const struct layout *layout, struct step *steps, size_t count) {
    for (size_t i = count; i-- > 0;) {
        struct step without[MOST_STEPS];
        size_t failed;
        memcpy(without, steps, i * sizeof *steps);
        memcpy(without + i, steps + i + 1, (count - i - 1) * sizeof *steps);
        if (!run_steps(layout, without, count - 1, &failed)) {
            count = failed < count - 1 ? failed : count - 1;
            memcpy(steps, without, count * sizeof *steps);
            if (i > count)
                i = count;
        }
    }
    return count;
}

static void print_walk(uint64_t seed, const struct layout *layout, struct step *steps, size_t count) {
    size_t failed;
    count = shorten(layout, steps, count);
    run_steps(layout, steps, count, &failed);
    printf("walk %lu: %s: ", seed, layout->name);
    for (size_t i = 0; i < count; i++) {
        print_step(&steps[i]);
        printf("; ");
    }
    printf("\t%s\n", why[0] ? why : "no longer");
    fflush(stdout);
}

size_t walk(char *kernel_area, char *area, const struct walk_options *given) {
    struct step steps[MOST_STEPS];
    size_t count = given->steps < MOST_STEPS ? given->steps : MOST_STEPS, failed, taken = 0, differ = 0;
    options = *given;
    kernel = (struct zone){.way = &by_kernel, .base = kernel_area + BEFORE_PAGES * PAGE};
    ours = (struct zone){.way = options.way, .base = area + BEFORE_PAGES * PAGE};
    catch_faults();
    for (uint64_t seed = options.seed; seed < options.seed + options.walks && differ < ENOUGH; seed++) {
        state = seed * 0xd1342543de82ef95u;
        const struct layout *layout = &layouts[below(layout_count)];
        for (size_t i = 0; i < count; i++)
            make_step(&steps[i]);
        if (options.pressure && below(8) == 0)
            press(options.pressure);
        if (!run_steps(layout, steps, count, &failed)) {
            print_walk(seed, layout, steps, failed < count ? failed : count);
            differ++;
        }
        taken += count;
    }
    return taken;
}
