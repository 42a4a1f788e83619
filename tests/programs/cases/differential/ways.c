/* The ways to make a call. */
#include "differential.h"

#include <sys/prctl.h>

static long answer(long result) {
    return result == -1 ? -errno : result;
}

static long in_assembly(long number, const long *a) {
    register long r10 __asm__("r10") = a[3];
    register long r8 __asm__("r8") = a[4];
    register long r9 __asm__("r9") = a[5];
    long result;
    if (number == POSIX_MADVISE) {
        if (a[2] == POSIX_MADV_DONTNEED)
            return 0;
        number = SYS_madvise;
    }
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static long by_function(long number, const long *a) {
    void *at = (void *)a[0];
    switch (number) {
    case SYS_mmap:
        return answer((long)mmap(at, a[1], a[2], a[3], a[4], a[5]));
    case SYS_munmap:
        return answer(munmap(at, a[1]));
    case SYS_mremap:
        return answer((long)mremap(at, a[1], a[2], a[3], a[4]));
    case SYS_mprotect:
        return answer(mprotect(at, a[1], a[2]));
    case SYS_pkey_mprotect:
        return answer(pkey_mprotect(at, a[1], a[2], a[3]));
    case SYS_madvise:
        return answer(madvise(at, a[1], a[2]));
    case POSIX_MADVISE:
        return -posix_madvise(at, a[1], a[2]);
    case SYS_mlock:
        return answer(mlock(at, a[1]));
    case SYS_mlock2:
        return answer(mlock2(at, a[1], a[2]));
    case SYS_munlock:
        return answer(munlock(at, a[1]));
    case SYS_mincore:
        return answer(mincore(at, a[1], (unsigned char *)a[2]));
    case SYS_msync:
        return answer(msync(at, a[1], a[2]));
    case SYS_brk:
        return brk(at) == 0 ? a[0] : -errno;
    case SYS_prctl:
        return answer(prctl(a[0], a[1], a[2], a[3], a[4]));
    case SYS_mlockall:
        return answer(mlockall(a[0]));
    case SYS_munlockall:
        return answer(munlockall());
    }
    fprintf(stderr, "no function for call %ld\n", number);
    exit(99);
}

static long through_syscall(long number, const long *a) {
    if (number == POSIX_MADVISE)
        return by_function(number, a);
    return answer(syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

const struct way by_kernel = {"kernel", in_assembly};
const struct way by_libc = {"libc", by_function};
const struct way by_number = {"number", through_syscall};
