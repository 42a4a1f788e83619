/* The sets: each layout with each call, with ranges and arguments good and bad.

   Nothing here may reach memory that is not in the zone. So lengths are either small, or such that the kernel refuses them
   before it looks at any mapping; and MADV_HWPOISON and MADV_SOFT_OFFLINE, which ruin real memory, are left out. */
#include "differential.h"

#define P ((long)PAGE)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define NUM(number) ((struct arg){NUMBER, (number)})
#define AT(offset) ((struct arg){ADDRESS, (offset)})
#define VEC ((struct arg){VECTOR, 0})
#define BAD ((struct arg){BAD_POINTER, 8})
#define FILE_ARG ((struct arg){DESCRIPTOR, 0})

static void (*user)(const struct set *);
static const struct layout *layout;

static void add(long number, const char *name, int count, const struct arg *args) {
    struct set set = {layout, number, name, count, {{NUMBER, 0}}};
    memcpy(set.args, args, count * sizeof *args);
    user(&set);
}
#define ADD(number, ...)                                                                                               \
    add(number, #number, COUNT(((struct arg[]){__VA_ARGS__})), (struct arg[]){__VA_ARGS__})

struct range {
    long at, len;
};

static const struct range small[] = {
    {0, 16 * P},       {0, P},           {5 * P, 6 * P},      {15 * P, P},    {8 * P, 8 * P},      {0, 8 * P},
    {6 * P, 4 * P},    {-2 * P, 6 * P},  {12 * P, 8 * P},     {-4 * P, 24 * P}, {-8 * P, 4 * P},   {20 * P, 4 * P},
    {5 * P + 1, P},    {4 * P + 100, 3 * P}, {5 * P, 1},      {5 * P, P + 1}, {15 * P, P + 1},     {5 * P, 0},
    {-8 * P, 0},       {5 * P + 1, 0},   {3 * P - 1, 2},      {2 * P + 8, P - 8}, {7 * P, P},
};
/* Refused by every call but mprotect, mlock and munlock, which go no further than to the end of the window. */
static const struct range wrapping[] = {{5 * P, -1}, {5 * P, -P}, {5 * P, -6 * P}, {5 * P + 1, -1}, {5 * P + 1, -P}};
static const struct range beyond[] = {{5 * P, 1L << 47}, {5 * P, (long)(1UL << 63)}, {0, (1L << 47) - P}};
/* For arguments of which there are many. */
static const struct range few[] = {{0, 16 * P}, {5 * P, 6 * P}, {-2 * P, 6 * P}, {12 * P, 8 * P}, {5 * P + 1, P}, {5 * P, 0}};

static const int rights[] = {
    PROT_NONE, PROT_READ, PROT_WRITE, PROT_READ | PROT_WRITE, PROT_EXEC, PROT_READ | PROT_EXEC,
    PROT_READ | PROT_WRITE | PROT_EXEC, PROT_READ | 8 /* PROT_SEM */, PROT_READ | 0x10, PROT_READ | 0x40,
    PROT_READ | PROT_GROWSDOWN, PROT_READ | PROT_GROWSUP, PROT_READ | PROT_GROWSDOWN | PROT_GROWSUP,
    PROT_READ | (int)0x80000000,
};
/* All that are known but those that ruin memory; and some that are not. */
static const int advices[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12,  13,  14,  15,  16,        17,
                              18, 19, 20, 21, 22, 23, 24, 25, 26, 50, 99, 102, 103, 104, 200, -1, -4, 1 << 30};

static void of_rights(void) {
    for (size_t i = 0; i < COUNT(few); i++)
        for (size_t k = 0; k < COUNT(rights); k++)
            ADD(SYS_mprotect, AT(few[i].at), NUM(few[i].len), NUM(rights[k]));
    for (size_t i = 0; i < COUNT(few); i++)
        for (int key = -1; key <= 15; key += 8)
            ADD(SYS_pkey_mprotect, AT(few[i].at), NUM(few[i].len), NUM(PROT_READ), NUM(key));
}

static void of_advice(void) {
    for (size_t i = 0; i < COUNT(few); i++)
        for (size_t k = 0; k < COUNT(advices); k++)
            ADD(SYS_madvise, AT(few[i].at), NUM(few[i].len), NUM(advices[k]));
    for (size_t i = 0; i < COUNT(few); i++)
        for (int advice = -1; advice <= 8; advice++)
            ADD(POSIX_MADVISE, AT(few[i].at), NUM(few[i].len), NUM(advice));
}

/* Each call with each range. */
static void of_range(struct range r, bool is_beyond) {
    ADD(SYS_mprotect, AT(r.at), NUM(r.len), NUM(PROT_READ));
    ADD(SYS_mprotect, AT(r.at), NUM(r.len), NUM(PROT_READ | PROT_WRITE));
    ADD(SYS_munmap, AT(r.at), NUM(r.len));
    ADD(SYS_mlock, AT(r.at), NUM(r.len));
    ADD(SYS_mlock2, AT(r.at), NUM(r.len), NUM(MLOCK_ONFAULT));
    ADD(SYS_munlock, AT(r.at), NUM(r.len));
    ADD(SYS_mincore, AT(r.at), NUM(r.len), VEC);
    ADD(SYS_mincore, AT(r.at), NUM(r.len), BAD);
    ADD(SYS_msync, AT(r.at), NUM(r.len), NUM(MS_SYNC));
    if (is_beyond)
        return;
    static const int advice[] = {MADV_DONTNEED, MADV_WILLNEED, MADV_WIPEONFORK, MADV_DONTFORK, MADV_POPULATE_READ,
                                 MADV_POPULATE_WRITE, 24 /* MADV_DONTNEED_LOCKED */, 26};
    for (size_t i = 0; i < COUNT(advice); i++)
        ADD(SYS_madvise, AT(r.at), NUM(r.len), NUM(advice[i]));
}

static void of_flags(void) {
    static const int sync[] = {0, MS_ASYNC, MS_SYNC, MS_INVALIDATE, MS_ASYNC | MS_SYNC, MS_SYNC | MS_INVALIDATE, 8, -1};
    static const int lock[] = {0, MLOCK_ONFAULT, 2, -1};
    for (size_t i = 0; i < COUNT(few); i++) {
        for (size_t k = 0; k < COUNT(sync); k++)
            ADD(SYS_msync, AT(few[i].at), NUM(few[i].len), NUM(sync[k]));
        for (size_t k = 0; k < COUNT(lock); k++)
            ADD(SYS_mlock2, AT(few[i].at), NUM(few[i].len), NUM(lock[k]));
    }
}

static void of_remap(void) {
    static const struct range old[] = {{0, 16 * P}, {0, P}, {5 * P, 6 * P}, {15 * P, P}, {12 * P, 8 * P}, {-2 * P, 4 * P},
                                       {20 * P, P}, {5 * P + 1, P}, {5 * P, 0}, {8 * P, 8 * P}};
    static const long resized[] = {0, 1, P, 3 * P, 6 * P, 16 * P, 24 * P, 1L << 47, -1, -P};
    static const int flags[] = {0, MREMAP_MAYMOVE, MREMAP_MAYMOVE | 4 /* MREMAP_DONTUNMAP */, 4, 8, -1};
    for (size_t i = 0; i < COUNT(old); i++)
        for (size_t k = 0; k < COUNT(resized); k++)
            for (size_t f = 0; f < COUNT(flags); f++)
                if (f < 3 || k == 4)
                    ADD(SYS_mremap, AT(old[i].at), NUM(old[i].len), NUM(resized[k]), NUM(flags[f]), NUM(0));
    /* Free memory; overlapping; not aligned; a part of the window; refused addresses; outside user space. */
    static const long targets[] = {-20 * P, 2 * P, -20 * P + 1, 11 * P, 24 * P};
    static const int fixed[] = {MREMAP_FIXED | MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_FIXED | MREMAP_MAYMOVE | 4};
    static const long lengths[] = {0, P, 4 * P, 6 * P};
    for (size_t i = 0; i < COUNT(old); i++)
        for (size_t t = 0; t < COUNT(targets); t++)
            for (size_t f = 0; f < COUNT(fixed); f++)
                for (size_t k = 0; k < COUNT(lengths); k++)
                    if (f == 0 || k == 3)
                        ADD(SYS_mremap, AT(old[i].at), NUM(old[i].len), NUM(lengths[k]), NUM(fixed[f]), AT(targets[t]));
    for (size_t k = 0; k < COUNT(lengths); k++)
        ADD(SYS_mremap, AT(0), NUM(6 * P), NUM(lengths[k]), NUM(fixed[0]), NUM(1L << 47));
    ADD(SYS_mremap, AT(0), NUM(-1), NUM(P), NUM(MREMAP_MAYMOVE), NUM(0));
    ADD(SYS_mremap, AT(0), NUM(-P), NUM(P), NUM(MREMAP_MAYMOVE), NUM(0));
    ADD(SYS_mremap, AT(0), NUM(1L << 47), NUM(P), NUM(MREMAP_MAYMOVE), NUM(0));
}

static void map_at(struct arg at, long len, int prot, int flags, struct arg file, long offset) {
    ADD(SYS_mmap, at, NUM(len), NUM(prot), NUM(flags), file, NUM(offset));
}

static void of_map(void) {
    const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS, both = PROT_READ | PROT_WRITE;
    const struct arg nothing = NUM(-1);
    for (size_t i = 0; i < COUNT(small); i++)
        map_at(AT(small[i].at), small[i].len, both, anonymous | MAP_FIXED, nothing, 0);
    for (size_t i = 0; i < COUNT(few); i++) {
        struct arg at = AT(few[i].at);
        const long len = few[i].len;
        map_at(at, len, both, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, nothing, 0);
        map_at(at, len, both, anonymous | MAP_FIXED_NOREPLACE, nothing, 0);
        map_at(at, len, both, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, nothing, 0);
        map_at(at, len, both, anonymous | MAP_FIXED | MAP_POPULATE, nothing, 0);
        map_at(at, len, both, anonymous | MAP_FIXED | MAP_LOCKED, nothing, 0);
        map_at(at, len, both, anonymous | MAP_FIXED | MAP_STACK, nothing, 0);
        map_at(at, len, both, anonymous | MAP_FIXED | MAP_NORESERVE, nothing, 0);
        map_at(at, len, both, anonymous, nothing, 0);
        /* Types that there are not, files that there are not, offsets. */
        map_at(at, len, both, MAP_ANONYMOUS | MAP_FIXED, nothing, 0);
        map_at(at, len, both, MAP_SHARED_VALIDATE | MAP_ANONYMOUS | MAP_FIXED, nothing, 0);
        map_at(at, len, both, 0x0f | MAP_ANONYMOUS | MAP_FIXED, nothing, 0);
        map_at(at, len, both, MAP_PRIVATE | MAP_FIXED, nothing, 0);
        map_at(at, len, both, MAP_PRIVATE | MAP_FIXED, NUM(9999), 0);
        map_at(at, len, both, anonymous | MAP_FIXED, NUM(9999), 0);
        map_at(at, len, both, anonymous | MAP_FIXED, nothing, 1);
        map_at(at, len, both, anonymous | MAP_FIXED, nothing, P);
        map_at(at, len, both, anonymous | MAP_FIXED, nothing, -P);
        map_at(at, len, both, anonymous | MAP_FIXED, nothing, -100 * P);
        map_at(at, len, both, MAP_PRIVATE | MAP_FIXED, FILE_ARG, 0);
        map_at(at, len, PROT_READ, MAP_SHARED | MAP_FIXED, FILE_ARG, P);
    }
    for (size_t k = 0; k < COUNT(rights); k++)
        map_at(AT(5 * P), 6 * P, rights[k], anonymous | MAP_FIXED, nothing, 0);
    static const long refused[] = {0, -1, -P, 1L << 47, (long)(1UL << 63), 1L << 46};
    for (size_t k = 0; k < COUNT(refused); k++) {
        map_at(NUM(0), refused[k], both, anonymous, nothing, 0);
        /* Nothing that would fit into user space may be mapped over what is there. */
        if (refused[k] == 1L << 46)
            continue;
        map_at(AT(5 * P), refused[k], both, anonymous | MAP_FIXED, nothing, 0);
        map_at(AT(5 * P), refused[k], both, anonymous | MAP_FIXED_NOREPLACE, nothing, 0);
    }
    for (size_t k = 0; k < COUNT(rights); k++)
        map_at(NUM(0), 3 * P, rights[k], anonymous, nothing, 0);
    /* Hints: free, taken, not aligned. */
    map_at(AT(20 * P), 3 * P, both, anonymous, nothing, 0);
    map_at(AT(-20 * P + 1), 3 * P, both, anonymous, nothing, 0);
    map_at(AT(14 * P), 4 * P, both, anonymous, nothing, 0);
    map_at(NUM(1L << 47), 3 * P, both, anonymous, nothing, 0);
}

void each_set(void (*use)(const struct set *set)) {
    user = use;
    for (size_t l = 0; l < layout_count; l++) {
        layout = &layouts[l];
        for (size_t i = 0; i < COUNT(small); i++)
            of_range(small[i], false);
        for (size_t i = 0; i < COUNT(wrapping); i++)
            of_range(wrapping[i], false);
        for (size_t i = 0; i < COUNT(beyond); i++)
            of_range(beyond[i], true);
        of_rights();
        of_advice();
        of_flags();
        of_remap();
        of_map();
    }
}

static int name_arg(const struct arg *arg, char *text, size_t size) {
    long value = arg->value;
    switch (arg->kind) {
    case ADDRESS:
        return snprintf(text, size, "base%c0x%lx", value < 0 ? '-' : '+', value < 0 ? -value : value);
    case VECTOR:
        return snprintf(text, size, "vec");
    case BAD_POINTER:
        return snprintf(text, size, "bad");
    case DESCRIPTOR:
        return snprintf(text, size, "file");
    case NUMBER:
        break;
    }
    return snprintf(text, size, value < 0 ? "-0x%lx" : "0x%lx", value < 0 ? -value : value);
}

void name_set(const struct set *set, char *text, size_t size) {
    const char *name = strncmp(set->name, "SYS_", 4) == 0 ? set->name + 4 : "posix_madvise";
    size_t at = snprintf(text, size, "%s: %s(", set->layout->name, name);
    for (int i = 0; i < set->count && at < size; i++) {
        at += name_arg(&set->args[i], text + at, size - at);
        at += at < size ? snprintf(text + at, size - at, i + 1 < set->count ? "," : ")") : 0;
    }
}

void perform_set(const struct set *set, struct zone *zone) {
    long args[6] = {0};
    for (int i = 0; i < set->count; i++) {
        switch (set->args[i].kind) {
        case ADDRESS:
            args[i] = (long)zone->base + set->args[i].value;
            break;
        case VECTOR:
            args[i] = (long)zone->vector;
            break;
        case DESCRIPTOR:
            if (zone->file < 0 && (zone->file = memfd_create("differential", 0)) < 0)
                fail("memfd_create");
            args[i] = zone->file;
            break;
        default:
            args[i] = set->args[i].value;
        }
    }
    zone->result = zone->way->call(set->number, args);
}
