/* process_madvise of the process itself, by libc's function and by number: contents are dropped, in memory or moved out. */
#include "case.h"

#include <sys/syscall.h>
#include <sys/uio.h>

#define PIECE (64 * KIB)

static long by_number(int self, struct iovec *ranges, size_t count, int advice) {
    return syscall(SYS_process_madvise, self, ranges, count, advice, 0);
}

static long by_function(int self, struct iovec *ranges, size_t count, int advice) {
    return process_madvise(self, ranges, count, advice, 0);
}

static void try(const char *name, long (*call)(int, struct iovec *, size_t, int), int advice, int self, size_t pressure) {
    char *at = map_memory(4 * PIECE);
    write_contents(at, 4 * PIECE, 1);
    if (pressure && advice == MADV_DONTNEED)
        press(pressure);
    struct iovec ranges[] = {{at, PIECE}, {at + 2 * PIECE, PIECE}};
    errno = 0;
    long result = call(self, ranges, 2, advice);
    size_t zero = 0, wrong = 0;
    for (size_t i = 0; i < 4 * PIECE / 8; i++) {
        uint64_t word = ((uint64_t *)at)[i];
        zero += word == 0;
        wrong += word != 0 && word != word_of(1, i);
    }
    printf("%s, advice %d: %ld, errno %d, %zu words are zero, %zu are wrong\n", name, advice, result, errno, zero, wrong);
    munmap(at + 2 * PIECE, PIECE);
    result = call(self, ranges, 2, advice);
    printf("  over a gap: %ld, errno %d\n", result, errno);
    munmap(at, 4 * PIECE);
}

int main(int argc, char **argv) {
    size_t pressure = argc > 1 ? strtoul(argv[1], NULL, 10) * MIB : 0;
    int self = syscall(SYS_pidfd_open, getpid(), 0);
    if (self < 0)
        fail("pidfd_open");
    static const int advices[] = {MADV_DONTNEED, MADV_WILLNEED, MADV_DONTFORK, 50};
    for (size_t i = 0; i < sizeof advices / sizeof *advices; i++) {
        try("by function", by_function, advices[i], self, pressure);
        try("by number", by_number, advices[i], self, pressure);
    }
    return 0;
}
