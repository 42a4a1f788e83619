/* Touches its memory in a known way, for the test of `quire run --record`. It prints where its memory is; each phase begins
 * with a mapping of a size of its own that is unmapped at once, and ends with a pause that is longer than some intervals. */

#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES 64
/* A marker of phase n has so many pages and n more. */
#define MARKER 7000

static volatile uint64_t *base;

static void check(int holds, const char *what)
{
    if (!holds) {
        perror(what);
        _exit(1);
    }
}

static void *map(size_t pages)
{
    void *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(at != MAP_FAILED, "mmap");
    return at;
}

static volatile uint64_t *page(int number)
{
    return base + (size_t)number * PAGE / sizeof *base;
}

static void pause_a_while(void)
{
    struct timespec time = { 0, 80 * 1000 * 1000 };
    nanosleep(&time, NULL);
}

static void begin(int phase)
{
    pause_a_while();
    size_t pages = MARKER + (size_t)phase;
    check(munmap(map(pages), pages * PAGE) == 0, "munmap");
}

static void read_pages(int first, int last)
{
    for (int i = first; i <= last; i++)
        (void)*page(i);
}

static void write_pages(int first, int last, uint64_t value)
{
    for (int i = first; i <= last; i++)
        *page(i) = value + (uint64_t)i;
}

static void read_then_write(int first, int last, uint64_t value)
{
    for (int i = first; i <= last; i++)
        *page(i) += value;
}

static void fork_and_touch(void)
{
    pid_t child = fork();
    check(child >= 0, "fork");
    if (child == 0) {
        read_pages(8, 11);
        *page(12) = 77;
        pause_a_while();
        /* Without what runs at exit. */
        _exit(*page(9) == 9 + 1001 ? 0 : 1);
    }
    int status;
    check(waitpid(child, &status, 0) == child && status == 0, "the child saw something else");
}

int main(void)
{
    base = map(PAGES);
    printf("%p\n", (void *)base);
    fflush(stdout);

    begin(0);
    write_pages(0, 31, 1);
    begin(1);
    read_pages(0, 15);
    begin(2);
    read_then_write(8, 11, 1000);
    write_pages(12, 13, 5);
    begin(3);
    check(madvise((void *)page(0), 8 * PAGE, MADV_DONTNEED) == 0, "madvise");
    check(munmap((void *)page(40), 8 * PAGE) == 0, "munmap");
    check(mprotect((void *)page(20), 4 * PAGE, PROT_READ) == 0, "mprotect");
    read_pages(20, 23);
    check(mprotect((void *)page(20), 4 * PAGE, PROT_READ | PROT_WRITE) == 0, "mprotect");
    begin(4);
    read_pages(0, 0);
    fork_and_touch();
    begin(5);
    /* Their contents are gone before the interval is over. */
    read_then_write(14, 15, 1);
    check(munmap((void *)page(14), 2 * PAGE) == 0, "munmap");
    begin(6);
    void *moved = mremap((void *)page(24), 8 * PAGE, 512 * PAGE, MREMAP_MAYMOVE);
    check(moved != MAP_FAILED, "mremap");
    printf("%p\n", moved);
    begin(7);
    for (int i = 0; i < 8; i++)
        check(((volatile uint64_t *)moved)[i * PAGE / 8] == 24 + (uint64_t)i + 1, "what was moved");
    begin(8);
    check(*page(0) == 0 && *page(9) == 9 + 1001 && *page(12) == 12 + 5 && *page(20) == 21, "contents");
    pause_a_while();
    return 0;
}
