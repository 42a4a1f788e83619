/* Runs a program as on a kernel that lacks some calls, which it refuses as that does: older 6.8|scan PROGRAM ..
 * 6.8: process_madvise of one's own memory for more than hints (6.13), guards (6.13), mseal (6.10), futexes by their own calls
 * (6.7). scan: PAGEMAP_SCAN (6.7). */
#include "case.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { MSEAL = 462, FUTEX_WAKE_CALL = 454, FUTEX_REQUEUE_CALL = 456, GUARD_INSTALL = 102, GUARD_REMOVE = 103 };
static const uint32_t PAGEMAP_SCAN_REQUEST = 0xc0606610;

#define NUMBER BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define ARGUMENT(n) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[n]))
#define UNLESS(what, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, what, 0, skip)
#define REFUSE(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))

static struct sock_filter lacks_6_8[] = {
    NUMBER,
    UNLESS(SYS_process_madvise, 1),
    REFUSE(EINVAL),
    UNLESS(MSEAL, 1),
    REFUSE(ENOSYS),
    BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, FUTEX_REQUEUE_CALL, 2, 0),
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, FUTEX_WAKE_CALL, 0, 1),
    REFUSE(ENOSYS),
    UNLESS(SYS_madvise, 5),
    ARGUMENT(2),
    UNLESS(GUARD_INSTALL, 1),
    REFUSE(EINVAL),
    UNLESS(GUARD_REMOVE, 1),
    REFUSE(EINVAL),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

static struct sock_filter lacks_scan[] = {
    NUMBER,
    UNLESS(SYS_ioctl, 3),
    ARGUMENT(1),
    UNLESS(PAGEMAP_SCAN_REQUEST, 1),
    REFUSE(ENOTTY),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

int main(int argc, char **argv) {
    if (argc < 3)
        return 98;
    struct sock_fprog program = {sizeof lacks_6_8 / sizeof *lacks_6_8, lacks_6_8};
    if (strcmp(argv[1], "scan") == 0)
        program = (struct sock_fprog){sizeof lacks_scan / sizeof *lacks_scan, lacks_scan};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        fail("seccomp");
    execvp(argv[2], argv + 2);
    fail(argv[2]);
}
