/* The interposed calls on memory answer as the kernel's, errors included. */
#define _GNU_SOURCE
#include "check.h"
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 64, LEN = PAGE * PAGES };

static char *map(size_t len, int prot) {
    char *at = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static void fill(char *at, int pages) {
    for (int i = 0; i < pages; i++) memset(at + i * PAGE, i + 1, PAGE);
}

static void mapping(void) {
    char *at = map(LEN, PROT_READ | PROT_WRITE);
    fill(at, PAGES);
    CHECK(munmap(at + 4 * PAGE, 4 * PAGE) == 0 && munmap(at + 4 * PAGE, 4 * PAGE) == 0);
    CHECK(at[3 * PAGE] == 4 && at[8 * PAGE] == 9);
    /* back into the gap, and over memory in use: zeroes */
    CHECK(mmap(at + 3 * PAGE, 6 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at + 3 * PAGE);
    for (int i = 3; i < 9; i++) CHECK(at[i * PAGE] == 0);
    CHECK(at[9 * PAGE] == 10 && at[2 * PAGE] == 3);
    CHECK(munmap(at, LEN) == 0);
    errno = 0;
    CHECK(munmap(at + 1, PAGE) == -1 && errno == EINVAL);
    errno = 0;
    CHECK(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
    errno = 0;
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, -1, 0) == MAP_FAILED && errno == EBADF);
}

static void foreign(void) {
    char *at = map(LEN, PROT_READ | PROT_WRITE), byte;
    fill(at, PAGES);
    int fd = open("/proc/self/exe", O_RDONLY);
    CHECK(fd >= 0 && pread(fd, &byte, 1, 1) == 1);
    CHECK(mmap(at + 8 * PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == at + 8 * PAGE);
    CHECK(at[8 * PAGE + 1] == byte && at[7 * PAGE] == 8 && at[10 * PAGE] == 11);
    CHECK(mmap(at + 20 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at + 20 * PAGE);
    CHECK(at[20 * PAGE] == 0);
    at[20 * PAGE] = 1;
    CHECK(munmap(at, LEN) == 0 && close(fd) == 0);
}

static void moving(void) {
    char *at = map(LEN, PROT_READ | PROT_WRITE);
    fill(at, PAGES);
    CHECK((at = mremap(at, LEN, 4 * LEN, MREMAP_MAYMOVE)) != MAP_FAILED);
    for (int i = 0; i < PAGES; i++) CHECK(at[i * PAGE] == (char)(i + 1));
    CHECK(at[LEN] == 0 && at[4 * LEN - 1] == 0);
    CHECK((at = mremap(at, 4 * LEN, LEN / 2, 0)) != MAP_FAILED);
    char *to = map(LEN, PROT_NONE);
    CHECK(mremap(at, LEN / 2, LEN / 2, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    for (int i = 0; i < PAGES / 2; i++) CHECK(to[i * PAGE] == (char)(i + 1));
    CHECK(munmap(to, LEN) == 0);
    errno = 0;
    CHECK(mremap(to + 1, PAGE, PAGE, 0) == MAP_FAILED && errno == EINVAL);
}

static void ranges(void) {
    char *at = map(LEN, PROT_NONE);
    CHECK(mprotect(at, LEN, PROT_READ | PROT_WRITE) == 0);
    fill(at, PAGES);
    CHECK(mprotect(at + PAGE, PAGE, PROT_NONE) == 0 && mprotect(at + PAGE, PAGE, PROT_READ) == 0);
    CHECK(at[PAGE] == 2 && at[0] == 1 && at[2 * PAGE] == 3);
    CHECK(mprotect(at + PAGE, PAGE, PROT_READ | PROT_WRITE) == 0 && pkey_mprotect(at, PAGE, PROT_READ | PROT_WRITE, -1) == 0);
    CHECK(madvise(at + 2 * PAGE, PAGE, MADV_DONTNEED) == 0 && at[2 * PAGE] == 0 && at[3 * PAGE] == 4);
    CHECK(posix_madvise(at, LEN, POSIX_MADV_DONTNEED) == 0 && at[3 * PAGE] == 4);
    CHECK(posix_madvise(at, LEN, POSIX_MADV_SEQUENTIAL) == 0 && madvise(at, LEN, MADV_WILLNEED) == 0);
    CHECK(madvise(at, LEN, MADV_HUGEPAGE) == 0 || errno == EINVAL);
    CHECK(mlock(at + 5 * PAGE + 17, PAGE) == 0 && at[5 * PAGE] == 6 && munlock(at + 5 * PAGE + 17, PAGE) == 0);
    CHECK(mlock2(at, PAGE, MLOCK_ONFAULT) == 0 && munlock(at, LEN) == 0);
    /* ENOMEM: there may be more of it than the budget. */
    CHECK(mlockall(MCL_CURRENT | MCL_ONFAULT) == 0 || errno == ENOMEM);
    CHECK(munlockall() == 0);
    errno = 0;
    CHECK(madvise(at + 1, PAGE, MADV_NORMAL) == -1 && errno == EINVAL);
    errno = 0;
    CHECK(madvise(at, PAGE, 12345) == -1 && errno == EINVAL);
    CHECK(posix_madvise(at + 1, PAGE, POSIX_MADV_NORMAL) == EINVAL);
    CHECK(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, at, LEN, "name") == 0 || errno == EINVAL);
    for (int i = 3; i < PAGES; i++) CHECK(at[i * PAGE] == (char)(i + 1));
    CHECK(munmap(at, LEN) == 0);
}

static void by_number(void) {
    char *at = (char *)syscall(SYS_mmap, NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
    CHECK(at != MAP_FAILED);
    fill(at, PAGES);
    CHECK(syscall(SYS_madvise, at, PAGE, MADV_DONTNEED) == 0 && at[0] == 0 && at[PAGE] == 2);
    CHECK(syscall(SYS_mprotect, at, PAGE, PROT_READ) == 0 && syscall(SYS_munmap, at, LEN) == 0);
    errno = 0;
    CHECK(syscall(SYS_close, -1) == -1 && errno == EBADF && syscall(SYS_getpid) == getpid());
    char name[16] = "";
    CHECK(prctl(PR_GET_NAME, name) == 0 && name[0]);
}

int main(void) {
    mapping();
    foreign();
    moving();
    ranges();
    by_number();
    puts("calls ok");
    return 0;
}
