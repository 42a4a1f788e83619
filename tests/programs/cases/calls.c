/* Calls on ranges with gaps, of several mappings, and of mappings that are not anonymous memory. Prints what each call
 * answers, and what it left behind, page by page. */
#include "case.h"
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { PAGES = 64 };
#define AT(n) (area + (n)*PAGE)

static char *area; /* PAGES pages without access, made anew for each step */
static int file;   /* page n holds the letter 'a' + n */

static void show_error(const char *what, long answer) {
    printf("%s: %s\n", what, answer == -1 ? strerror(errno) : "done");
}

/* '.' no mapping, '-' no access, else what is in its first byte: '0' zero, a letter, '?' other. */
static char at_page(const char *page) {
    static int null = -1;
    if (null < 0)
        null = open("/dev/null", O_WRONLY);
    unsigned char in_core;
    if (mincore((void *)page, PAGE, &in_core) != 0)
        return '.';
    int ends[2];
    if (pipe(ends) != 0)
        fail("pipe");
    char byte = '-';
    if (write(ends[1], page, 1) == 1 && read(ends[0], &byte, 1) == 1)
        byte = byte == 0 ? '0' : byte >= 'A' && byte <= 'z' ? byte : '?';
    close(ends[0]);
    close(ends[1]);
    return byte;
}

static void show(const char *what, const char *at, int pages) {
    char line[PAGES + 1];
    for (int i = 0; i < pages; i++)
        line[i] = at_page(at + i * PAGE);
    printf("  %s %.*s\n", what, pages, line);
}

static void put(int from, int pages) {
    char *at = mmap(AT(from), pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (at != AT(from))
        fail("mmap over the area");
    for (int i = 0; i < pages; i++)
        memset(at + i * PAGE, 'A' + (from + i) % 26, PAGE);
}

static void put_file(int from, int pages, int prot, int sharing) {
    if (mmap(AT(from), pages * PAGE, prot, sharing | MAP_FIXED, file, 0) != AT(from))
        fail("mmap of a file over the area");
}

static void begin(const char *name) {
    printf("%s\n", name);
    area = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED)
        fail("mmap of the area");
}

static void end(void) {
    show("area", area, PAGES);
    if (munmap(area, PAGES * PAGE) != 0)
        fail("munmap of the area");
}

/* Eight pages with contents, a gap of two, eight more. */
static void put_gap(void) {
    put(0, 18);
    munmap(AT(8), 2 * PAGE);
}

static void gaps(void) {
    static const struct {
        const char *name;
        int advice;
    } advices[] = {{"DONTNEED", MADV_DONTNEED},     {"FREE", MADV_FREE},         {"COLD", MADV_COLD},
                   {"PAGEOUT", MADV_PAGEOUT},       {"WILLNEED", MADV_WILLNEED}, {"RANDOM", MADV_RANDOM},
                   {"WIPEONFORK", MADV_WIPEONFORK}, {"DONTFORK", MADV_DONTFORK}, {"unknown", 4711}};
    for (size_t i = 0; i < sizeof advices / sizeof *advices; i++) {
        begin(advices[i].name);
        put_gap();
        show_error("across a gap", madvise(AT(4), 10 * PAGE, advices[i].advice));
        show_error("from a gap on", madvise(AT(9), 4 * PAGE, advices[i].advice));
        show_error("nothing but a gap", madvise(AT(8), 2 * PAGE, advices[i].advice));
        if (advices[i].advice == MADV_FREE)
            munmap(AT(4), 10 * PAGE); /* it may be there still, or not */
        end();
    }
    begin("DONTNEED up to a lock");
    put_gap();
    show_error("mlock", mlock(AT(12), PAGE));
    show_error("across both", madvise(AT(0), 18 * PAGE, MADV_DONTNEED));
    end();
    begin("rights");
    put_gap();
    show_error("mprotect across", mprotect(AT(4), 10 * PAGE, PROT_NONE));
    show_error("mprotect from a gap", mprotect(AT(9), 4 * PAGE, PROT_NONE));
    end();
    begin("locks");
    put_gap();
    show_error("mlock across", mlock(AT(4), 10 * PAGE));
    show_error("mlock from a gap", mlock(AT(8), 4 * PAGE));
    show_error("munlock across", munlock(AT(4), 10 * PAGE));
    show_error("DONTNEED where it was locked", madvise(AT(4), 4 * PAGE, MADV_DONTNEED));
    end();
    begin("a lock where nothing can be brought in");
    put(0, 8);
    mprotect(AT(3), 2 * PAGE, PROT_NONE);
    show_error("mlock", mlock(AT(0), 8 * PAGE));
    show_error("mlock2 on fault", mlock2(AT(0), 8 * PAGE, MLOCK_ONFAULT));
    show_error("munlock", munlock(AT(0), 8 * PAGE));
    end();
    begin("munmap across, twice");
    put_gap();
    show_error("munmap", munmap(AT(4), 10 * PAGE));
    show_error("munmap", munmap(AT(4), 10 * PAGE));
    end();
}

/* A loader's image: a reservation, parts of a file in it, memory behind them. */
static void put_image(void) {
    put(0, 4);
    put_file(4, 4, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    put(8, 4);
    put_file(12, 4, PROT_READ, MAP_SHARED);
    memset(AT(5), 'Z', PAGE);
}

static void parts(void) {
    begin("an image's rights");
    put_image();
    show_error("all of it", mprotect(AT(0), 20 * PAGE, PROT_READ));
    show_error("from within a file", mprotect(AT(6), 4 * PAGE, PROT_READ | PROT_WRITE));
    memset(AT(6), 'W', 4 * PAGE);
    munmap(AT(10), 4 * PAGE);
    show_error("up to a gap", mprotect(AT(4), 12 * PAGE, PROT_NONE));
    end();
    begin("an image's contents dropped");
    put_image();
    memset(AT(7), 'Y', PAGE);
    show_error("of memory and file", madvise(AT(2), 12 * PAGE, MADV_DONTNEED));
    munmap(AT(8), PAGE);
    memset(AT(5), 'X', 2 * PAGE);
    show_error("across a gap", madvise(AT(4), 8 * PAGE, MADV_DONTNEED));
    show_error("FREE of both", madvise(AT(4), 8 * PAGE, MADV_FREE));
    end();
    begin("an image locked");
    put_image();
    show_error("mlock", mlock(AT(0), 16 * PAGE));
    show_error("DONTNEED", madvise(AT(0), 16 * PAGE, MADV_DONTNEED));
    show_error("munlock", munlock(AT(2), 12 * PAGE));
    show_error("DONTNEED", madvise(AT(2), 12 * PAGE, MADV_DONTNEED));
    end();
    begin("an image unmapped in pieces");
    put_image();
    show_error("munmap", munmap(AT(3), 3 * PAGE));
    show_error("munmap", munmap(AT(6), 8 * PAGE));
    put(2, 12);
    end();
    begin("a file over memory that does not exist");
    put(0, 8);
    void *at = mmap(AT(2), 2 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, -1, 0);
    show_error("mmap", at == MAP_FAILED ? -1 : 0);
    int read_only = open("/proc/self/exe", O_RDONLY);
    at = mmap(AT(4), 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, read_only, 0);
    show_error("mmap to write a file opened to read", at == MAP_FAILED ? -1 : 0);
    close(read_only);
    end();
}

static void *move(const char *what, int from, int pages, int to_pages, int flags, void *to) {
    void *at = mremap(AT(from), pages * PAGE, to_pages * PAGE, flags, to);
    const char *where = at == AT(from) ? "in place" : at == to ? "there" : "elsewhere";
    printf("%s: %s\n", what, at == MAP_FAILED ? strerror(errno) : where);
    return at;
}

enum { THERE = MREMAP_MAYMOVE | MREMAP_FIXED, COPY = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP };

static void moves_within(void) {
    begin("moves within");
    put(0, 8);
    move("fixed", 0, 8, 8, THERE, AT(32));
    move("fixed and shorter", 32, 8, 4, THERE, AT(16));
    move("fixed and longer", 16, 4, 6, THERE, AT(0));
    move("old place kept", 0, 6, 6, COPY, AT(40));
    move("onto itself", 40, 6, 6, THERE, AT(42));
    move("from nothing", 16, 4, 4, THERE, AT(50));
    end();
    begin("moves of a file within");
    put(0, 2);
    put_file(8, 4, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    memset(AT(9), 'P', PAGE);
    move("fixed", 8, 4, 4, THERE, AT(20));
    move("fixed and shorter", 20, 4, 3, THERE, AT(1));
    move("fixed and longer", 1, 3, 4, THERE, AT(30));
    move("shorter", 30, 4, 2, MREMAP_MAYMOVE, NULL);
    move("as it is", 30, 2, 2, 0, NULL);
    move("old place kept", 30, 2, 2, COPY, AT(4));
    put(30, 2);
    end();
    begin("moves of several at once");
    put_image();
    mprotect(AT(9), PAGE, PROT_READ);
    int several = mremap(AT(0), 16 * PAGE, 16 * PAGE, THERE, AT(32)) != MAP_FAILED; /* since Linux 6.17 */
    printf("fixed: %s\n", several ? "there" : strerror(errno));
    move("and longer", several ? 32 : 0, 16, 17, THERE, several ? AT(0) : AT(32));
    move("and shorter, in place", several ? 32 : 0, 16, 10, MREMAP_MAYMOVE, NULL);
    end();
    begin("moves of several with a gap");
    put_gap();
    put(32, 18);
    move("fixed", 0, 18, 18, THERE, AT(32));
    move("from a gap on", 8, 4, 4, THERE, AT(0));
    end();
}

/* Beyond what is managed: addresses below anything the kernel gives by itself. */
static char *const far_away = (char *)0x10000000000;

static void moves_out(void) {
    begin("moves out");
    put(0, 8);
    press(32 * MIB);
    move("far away", 0, 8, 8, THERE, far_away);
    show("far", far_away, 8);
    press(32 * MIB);
    show("far", far_away, 8);
    printf("back, shorter: %s\n", mremap(far_away, 8 * PAGE, 4 * PAGE, THERE, AT(20)) == AT(20) ? "there" : "refused");
    show("far", far_away, 8);
    mprotect(AT(20), 2 * PAGE, PROT_READ);
    move("read-only, longer", 20, 2, 6, THERE, far_away);
    move("another, behind it", 22, 2, 2, THERE, far_away + 6 * PAGE);
    show("far", far_away, 9);
    put(40, 4);
    move("old place kept", 40, 4, 4, COPY, far_away + 8 * PAGE);
    show("far", far_away, 13);
    put_file(50, 4, PROT_READ, MAP_PRIVATE);
    move("a file", 50, 4, 4, THERE, far_away + 2 * PAGE);
    show("far", far_away, 13);
    move("from nothing", 60, 2, 2, MREMAP_MAYMOVE, NULL);
    munmap(far_away, 13 * PAGE);
    put(50, 4);
    end();
    begin("a large one moves out");
    char *large = map_memory(64 * MIB);
    write_contents(large, 64 * MIB, 5);
    large = mremap(large, 64 * MIB, 64 * MIB, THERE, far_away);
    printf("%zu words wrong\n", wrong_words(large, 64 * MIB, 5));
    munmap(large, 64 * MIB);
    end();
}

/* What is refused for where the memory is leaves the place that it was to go to alone; so does what lies opposite to a gap. */
static void moves_out_in_vain(void) {
    begin("moves out that are refused");
    char *far = mmap(far_away, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memset(far, 'f', 16 * PAGE);
    put(0, 8);
    mprotect(AT(4), 4 * PAGE, PROT_READ);
    munmap(AT(20), 4 * PAGE);
    move("several, longer", 0, 8, 10, THERE, far);
    show("far", far, 16);
    move("from nothing", 20, 4, 4, THERE, far);
    show("far", far, 16);
    move("up to nothing, longer", 18, 4, 6, THERE, far);
    show("far", far, 16);
    put(30, 8);
    munmap(AT(32), 2 * PAGE);
    move("with a gap", 30, 8, 8, THERE, far + 4 * PAGE);
    show("far", far, 16);
    munmap(far, 16 * PAGE);
    end();
}

static void show_locked(void) {
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (strncmp(line, "VmLck:", 6) == 0)
            printf("  %s", line);
    fclose(status);
}

static void unlocks_all(void) {
    begin("all is unlocked");
    put(0, 8);
    put_file(2, 4, PROT_READ, MAP_SHARED);
    mmap(far_away, 4 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    show_error("mlock", mlock(AT(0), 8 * PAGE));
    show_error("mlock far away", mlock(far_away, 4 * PAGE));
    show_locked();
    show_error("munlockall", munlockall());
    show_locked();
    munmap(far_away, 4 * PAGE);
    end();
}

static void moves_code(void) {
    begin("code moves in");
    char *own = (char *)((uintptr_t)&moves_code & ~(PAGE - 1));
    char first = *own;
    printf("%s\n", mremap(own, PAGE, PAGE, COPY, AT(8)) == AT(8) ? "there" : strerror(errno));
    show_error("its rights", mprotect(AT(8), PAGE, PROT_READ | PROT_EXEC));
    printf("the same: %d\n", *AT(8) == first && *own == first);
    munmap(AT(8), PAGE);
    end();
}

/* A name is for every page of a range, up to the first where nothing is mapped. */
static void names(void) {
    enum { SET_VMA = 0x53564d41 };
    static const struct {
        int from, pages;
        const char *name;
    } asked[] = {{0, 8, "whole"}, {0, 4, NULL}, {5, 1, "one"}, {2, 10, "into a gap"}, {9, 2, "in the gap"},
                 {10, 4, "out of the gap"}, {0, 0, "nothing"}, {4, 2, "[bad]"}};
    begin("names");
    put(0, 8);
    munmap(AT(8), 4 * PAGE);
    put(12, 2);
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        char *at = AT(asked[i].from);
        show_error(asked[i].name ? asked[i].name : "none",
                   prctl(SET_VMA, 0, at, asked[i].pages * PAGE, asked[i].name));
    }
    show("after", AT(0), 14);
    end();
}

int main(void) {
    file = memfd_create("pages", 0);
    for (int i = 0; i < 8; i++) {
        char page[PAGE];
        memset(page, 'a' + i, PAGE);
        if (write(file, page, PAGE) != (ssize_t)PAGE)
            fail("write");
    }
    gaps();
    parts();
    moves_within();
    moves_out();
    moves_out_in_vain();
    unlocks_all();
    moves_code();
    names();
    return 0;
}
