/* What a call did: result, and page by page rights, marks, access, contents and residency.

   The same pages are described alike wherever the zone lies, and neighbours that are alike in one piece. */
#include "differential.h"

#define MOST_MAPPINGS 65536

static struct mapping mappings[MOST_MAPPINGS];
static size_t mapping_count;
static int ends[2] = {-1, -1};

static void read_flags(struct mapping *mapping, const char *flags) {
    mapping->locked = strstr(flags, " lo") != NULL;
    mapping->dont_fork = strstr(flags, " dc") != NULL;
    mapping->wipe_on_fork = strstr(flags, " wf") != NULL;
}

void read_mappings(void) {
    static char line[8192];
    FILE *file = fopen("/proc/self/smaps", "r");
    if (!file)
        fail("smaps");
    mapping_count = 0;
    struct mapping *mapping = NULL;
    while (fgets(line, sizeof line, file)) {
        struct mapping fresh = {0};
        unsigned long inode;
        if (sscanf(line, "%p-%p %4s %*s %*s %lu", (void **)&fresh.start, (void **)&fresh.end, fresh.rights, &inode) == 4) {
            fresh.plain = inode == 0 && fresh.rights[3] == 'p';
            if (mapping_count == MOST_MAPPINGS)
                fail("too many mappings");
            mapping = &mappings[mapping_count++];
            *mapping = fresh;
        } else if (mapping && strncmp(line, "VmFlags:", 8) == 0)
            read_flags(mapping, line);
    }
    fclose(file);
}

const struct mapping *mapping_at(const char *at) {
    size_t low = 0, high = mapping_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (mappings[middle].end <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low < mapping_count && mappings[low].start <= at ? &mappings[low] : NULL;
}

/* Whether one byte goes there and back through a pipe: 'R' read, 'W' written, '-' neither. */
static void access_of(char *page, char text[3]) {
    if (ends[0] < 0 && pipe(ends) != 0)
        fail("pipe");
    strcpy(text, "--");
    if (write(ends[1], page, 1) == 1) {
        text[0] = 'R';
        char byte;
        if (read(ends[0], page, 1) == 1)
            text[1] = 'W';
        else if (read(ends[0], &byte, 1) != 1)
            fail("read");
    }
}

static bool is_zero(const char *page) {
    return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

/* Which contents are there: those of page `place` are called after it, moved ones by how far they came. */
static void contents_of(const char *page, long place, char *text, size_t size) {
    if (is_zero(page)) {
        snprintf(text, size, "zero");
        return;
    }
    for (long other = 0; other < WINDOW_PAGES; other++) {
        if (wrong_words(page, PAGE, OWN_SEED + other) == 0) {
            snprintf(text, size, other == place ? "own" : "own%+ld", other - place);
            return;
        }
        if (wrong_words(page, PAGE, FILE_SEED + other) == 0) {
            snprintf(text, size, "file%+ld", other - place);
            return;
        }
    }
    snprintf(text, size, "other");
}

/* Marks which of `pages` pages are mapped, as mincore knows it, and which are resident. */
static void find_mapped(const struct zone *zone, char *at, long pages, char *mapped) {
    static unsigned char vector[ZONE_PAGES];
    long result = CALL(zone->way, SYS_mincore, (long)at, pages * PAGE, (long)vector);
    if (result == 0) {
        for (long page = 0; page < pages; page++)
            mapped[page] = vector[page] & 1 ? 'r' : 'a';
    } else if (pages == 1) {
        mapped[0] = result == -ENOMEM ? '.' : '?';
    } else {
        find_mapped(zone, at, pages / 2, mapped);
        find_mapped(zone, at + pages / 2 * PAGE, pages - pages / 2, mapped + pages / 2);
    }
}

/* The description of one page; empty where nothing is mapped. `place` is its number in the window. */
static void page_text(const struct zone *zone, char *page, long place, char mapped, struct compared compared,
                      char *text, size_t size) {
    const struct mapping *mapping = mapping_at(page);
    char access[3], contents[32];
    text[0] = 0;
    if (mapped == '.' && (!mapping || strcmp(mapping->rights, "---p") == 0))
        return;
    access_of(page, access);
    if (access[0] != 'R')
        CALL(zone->way, SYS_mprotect, (long)page, PAGE, PROT_READ);
    char again[3];
    access_of(page, again);
    if (again[0] == 'R' && compared.loose && (is_zero(page) || wrong_words(page, PAGE, OWN_SEED + place) == 0))
        strcpy(contents, "own or zero");
    else if (again[0] == 'R' && compared.unnamed)
        strcpy(contents, "readable");
    else if (again[0] == 'R')
        contents_of(page, place, contents, sizeof contents);
    else
        strcpy(contents, "out of reach");
    snprintf(text, size, "%s%s%s%s%s %s %s%s", mapped == '.' ? "gone but " : mapped == '?' ? "unknown " : "",
             mapping ? mapping->rights : "none", mapping && mapping->locked ? " locked" : "",
             mapping && mapping->dont_fork ? " dontfork" : "", mapping && mapping->wipe_on_fork ? " wipeonfork" : "",
             access, contents, !compared.residency ? "" : mapped == 'r' ? " in" : " out");
}

/* `first` is the number of the first page, `place` that by which its contents are known. */
static size_t pages_text(const struct zone *zone, char *at, long pages, long first, long place,
                         struct compared compared, char *text, size_t size) {
    static char mapped[ZONE_PAGES];
    char previous[128] = "", one[128];
    size_t used = 0;
    long since = 0;
    find_mapped(zone, at, pages, mapped);
    for (long page = 0; page <= pages; page++) {
        one[0] = 0;
        if (page < pages)
            page_text(zone, at + page * PAGE, place + page, mapped[page], compared, one, sizeof one);
        if (page < pages && strcmp(one, previous) == 0)
            continue;
        if (previous[0] && used < size)
            used += snprintf(text + used, size - used, "; %ld..%ld %s", first + since, first + page - 1, previous);
        strcpy(previous, one);
        since = page;
    }
    return used < size ? used : size;
}

static bool makes_memory(const struct set *set) {
    return set->number == SYS_mmap || set->number == SYS_mremap;
}

static long new_length(const struct set *set) {
    return set->args[set->number == SYS_mmap ? 1 : 2].value;
}

/* The result, and what lies where the call put something outside the zone. That is unmapped then. */
static size_t result_text(const struct set *set, struct zone *zone, struct compared compared, char *text, size_t size) {
    if (zone->result < 0 && zone->result > -4096)
        return snprintf(text, size, "%s", strerrorname_np(-zone->result));
    if (!makes_memory(set))
        return snprintf(text, size, "%ld", zone->result);
    char *at = (char *)zone->result;
    const char *low = zone->base - BEFORE_PAGES * PAGE;
    if (at >= low && at < low + ZONE)
        return snprintf(text, size, "base%+ld", (long)(at - zone->base));
    long pages = (new_length(set) + PAGE - 1) / PAGE;
    size_t used = snprintf(text, size, "elsewhere");
    used += pages_text(zone, at, pages < ZONE_PAGES ? pages : ZONE_PAGES, 0, 0, compared, text + used, size - used);
    CALL(zone->way, SYS_munmap, (long)at, pages * PAGE);
    return used + (used < size ? snprintf(text + used, size - used, "; left:") : 0);
}

static size_t vector_text(const struct zone *zone, struct compared compared, char *text, size_t size) {
    size_t used = snprintf(text, size, " vector ");
    for (int page = 0; page < ZONE_PAGES && used < size; page++) {
        unsigned char byte = zone->vector[page];
        text[used++] = byte == 0xee ? '.' : !compared.residency ? 'x' : byte & 1 ? '1' : '0';
    }
    while (used > 0 && text[used - 1] == '.')
        used--;
    text[used] = 0;
    return used;
}

void describe(const struct set *set, struct zone *zone, struct compared compared, char *text, size_t size) {
    /* Whether and when the kernel drops these, or moves them out, is its own affair. */
    if (set->number == SYS_madvise || set->number == POSIX_MADVISE) {
        compared.loose = set->args[2].value == MADV_FREE;
        compared.residency &= !compared.loose && set->args[2].value != 21 /* MADV_PAGEOUT */;
    }
    size_t used = result_text(set, zone, compared, text, size);
    if (set->number == SYS_mincore && used < size)
        used += vector_text(zone, compared, text + used, size - used);
    if (used < size)
        pages_text(zone, zone->base - BEFORE_PAGES * PAGE, ZONE_PAGES, -BEFORE_PAGES, -BEFORE_PAGES, compared,
                   text + used, size - used);
}
