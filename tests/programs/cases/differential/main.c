/* differential sets WAY RESIDENCY PRESS_MIB EVERY [PART]: tries sets on the kernel's memory and by WAY ("libc", "number"),
   prints each that differs, and how many there were. RESIDENCY: whether it counts what is resident. PRESS_MIB: what is
   pressed with before the calls, so that our pages have left; then only layouts with contents that can leave. EVERY: one
   set of so many. PART: what their names have to contain.

   differential faults: the same for touches.

   differential walk WAY SEED WALKS STEPS PRESS_MIB: sequences of random calls, as many as WALKS, the first of seed SEED. */
#include "differential.h"

#include <sys/prctl.h>

#define BATCH 256
#define TEXT 4096

static char *kernel_area, *area;
static struct set batch[BATCH];
static struct zone kernel_zones[BATCH], zones[BATCH];
static size_t batched, tried, differ;
static const struct way *way;
static struct compared compared;
static size_t pressure;
static size_t every;
static const char *part = "";
static bool show_all;

/* Addresses that nothing else is put into: both areas lie amid much that is free. */
static void find_areas(void) {
    const size_t len = 1UL << 30;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    kernel_area = (char *)0x200000000000;
    area = mmap(NULL, len, PROT_NONE, flags, -1, 0);
    if (area == MAP_FAILED || munmap(area, len) != 0)
        fail("no area");
    area = (char *)(((unsigned long)area + len / 2 + (2 * MIB - 1)) & -(2 * MIB));
}

static void make_zones(struct zone *all, char *at, const struct way *by) {
    for (size_t i = 0; i < batched; i++) {
        all[i].way = by;
        all[i].base = at + i * ZONE + BEFORE_PAGES * PAGE;
        make_zone(&all[i], batch[i].layout);
    }
}

static void perform_all(struct zone *all) {
    for (size_t i = 0; i < batched; i++)
        perform_set(&batch[i], &all[i]);
}

static void compare(size_t i) {
    static char kernel[TEXT], ours[TEXT], name[512];
    describe(&batch[i], &kernel_zones[i], compared, kernel, sizeof kernel);
    describe(&batch[i], &zones[i], compared, ours, sizeof ours);
    if (show_all || strcmp(kernel, ours) != 0) {
        name_set(&batch[i], name, sizeof name);
        printf("%s\t%s\t%s\n", name, kernel, ours);
        differ++;
    }
}

static void finish_batch(void) {
    make_zones(kernel_zones, kernel_area, &by_kernel);
    make_zones(zones, area, way);
    if (pressure)
        press(pressure);
    perform_all(kernel_zones);
    perform_all(zones);
    read_mappings();
    for (size_t i = 0; i < batched; i++)
        compare(i);
    for (size_t i = 0; i < batched; i++) {
        drop_zone(&kernel_zones[i]);
        drop_zone(&zones[i]);
    }
    tried += batched;
    batched = 0;
    fflush(stdout);
}

static size_t hash(const char *text) {
    uint64_t value = 14695981039346656037u;
    for (; *text; text++)
        value = (value ^ (unsigned char)*text) * 1099511628211u;
    return value >> 32;
}

static void take(const struct set *set) {
    static char name[512];
    if (pressure && !set->layout->evictable)
        return;
    name_set(set, name, sizeof name);
    if (!strstr(name, part) || hash(name) % every != 0)
        return;
    batch[batched++] = *set;
    if (batched == BATCH)
        finish_batch();
}

int main(int argc, char **argv) {
    /* What a set makes resident is then what it touches. */
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    find_areas();
    show_all = getenv("SHOW_ALL") != NULL;
    if (argc >= 6 && strcmp(argv[1], "sets") == 0) {
        way = strcmp(argv[2], "number") == 0 ? &by_number : &by_libc;
        compared.residency = atoi(argv[3]) != 0;
        pressure = strtoul(argv[4], NULL, 10) * MIB;
        every = strtoul(argv[5], NULL, 10);
        part = argc > 6 ? argv[6] : "";
        each_set(take);
        finish_batch();
        printf("%zu sets\n", tried);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "faults") == 0) {
        printf("%zu touches\n", compare_faults(kernel_area, area, &by_libc));
        return 0;
    }
    if (argc == 7 && strcmp(argv[1], "walk") == 0) {
        const struct walk_options options = {
            .way = strcmp(argv[2], "number") == 0 ? &by_number : &by_libc,
            .seed = strtoul(argv[3], NULL, 10),
            .walks = strtoul(argv[4], NULL, 10),
            .steps = strtoul(argv[5], NULL, 10),
            .pressure = strtoul(argv[6], NULL, 10) * MIB,
        };
        printf("%zu steps\n", walk(kernel_area, area, &options));
        return 0;
    }
    fprintf(stderr, "usage: differential sets WAY RESIDENCY PRESS_MIB EVERY [PART] | faults | walk WAY SEED WALKS STEPS PRESS_MIB\n");
    return 2;
}
