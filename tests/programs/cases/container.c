/* Runs a program behind a seccomp filter that decides as Docker's default profile does for a container with the default
 * capabilities: container PROGRAM ..  An allow list: what is not let through fails with EPERM, clone3 and numbers that the
 * profile does not know yet with ENOSYS. It needs CAP_SYS_ADMIN, as runc does, and leaves no_new_privs alone. */
#include "case.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* Let through are the numbers up to 335 (uretprobe) and from 424 to 466 (removexattrat) without these. Some of them are let
 * through with a capability that a container does not have by default. */
static const short refused[] = {
    /* CAP_SYS_ADMIN */
    SYS_bpf, SYS_fanotify_init, SYS_fsconfig, SYS_fsmount, SYS_fsopen, SYS_fspick, SYS_lookup_dcookie, SYS_mount,
    SYS_mount_setattr, SYS_move_mount, SYS_open_tree, SYS_perf_event_open, SYS_quotactl, SYS_quotactl_fd,
    SYS_setdomainname, SYS_sethostname, SYS_setns, SYS_syslog, SYS_umount2, SYS_unshare, 459, 460, 461,
    /* CAP_SYS_PTRACE */
    SYS_kcmp, SYS_pidfd_getfd, SYS_process_madvise,
    /* CAP_SYS_NICE */
    SYS_get_mempolicy, SYS_mbind, SYS_set_mempolicy, 450,
    /* other capabilities */
    SYS_acct, SYS_clock_settime, SYS_delete_module, SYS_finit_module, SYS_init_module, SYS_ioperm, SYS_iopl,
    SYS_open_by_handle_at, SYS_reboot, SYS_settimeofday, SYS_vhangup,
    /* always */
    SYS_add_key, SYS_afs_syscall, SYS_create_module, SYS_get_kernel_syms, SYS_getpmsg, SYS_io_uring_enter,
    SYS_io_uring_register, SYS_io_uring_setup, SYS_kexec_file_load, SYS_kexec_load, SYS_keyctl, SYS_migrate_pages,
    SYS_move_pages, SYS_nfsservctl, SYS_pivot_root, SYS_putpmsg, SYS_query_module, SYS_request_key, SYS_security, SYS_swapoff,
    SYS_swapon, SYS_sysfs, SYS__sysctl, SYS_tuxcall, SYS_uselib, SYS_userfaultfd, SYS_ustat, SYS_vserver,
};
static const uint32_t personalities[] = {0, 0x0008, 0x20000, 0x20008, 0xffffffff};
#define NAMESPACES 0x7e020000

#define COUNT(list) (sizeof(list) / sizeof *(list))
#define EPERM_ANSWER (SECCOMP_RET_ERRNO | EPERM)
#define ENOSYS_ANSWER (SECCOMP_RET_ERRNO | ENOSYS)

static struct sock_filter filter[512];
static unsigned short length;

static void add(uint16_t code, uint32_t value, uint8_t yes, uint8_t no) {
    filter[length++] = (struct sock_filter){code, yes, no, value};
}

static void load(size_t offset) {
    add(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

/* Where what is loaded compares so, the answer. */
static void answer_if(uint16_t compare, uint32_t value, uint32_t answer) {
    add(BPF_JMP | compare | BPF_K, value, 0, 1);
    add(BPF_RET | BPF_K, answer, 0, 0);
}

/* What follows, up to `end_call`, is for one call and sees its first argument. */
static unsigned short begin_call(uint32_t number) {
    add(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 0);
    load(offsetof(struct seccomp_data, args[0]));
    return length - 2;
}

static void end_call(unsigned short begin, uint32_t answer) {
    add(BPF_RET | BPF_K, answer, 0, 0);
    filter[begin].jf = length - begin - 1;
}

static void make_filter(void) {
    load(offsetof(struct seccomp_data, arch));
    add(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    /* The profile has lists for i386 and x32 too, which nobody needs here. */
    add(BPF_RET | BPF_K, EPERM_ANSWER, 0, 0);
    load(offsetof(struct seccomp_data, nr));
    answer_if(BPF_JGT, 466, ENOSYS_ANSWER);
    answer_if(BPF_JEQ, SYS_clone3, ENOSYS_ANSWER);
    for (size_t i = 0; i < COUNT(refused); i++)
        answer_if(BPF_JEQ, refused[i], EPERM_ANSWER);
    unsigned short begin = begin_call(SYS_clone);
    answer_if(BPF_JSET, NAMESPACES, EPERM_ANSWER);
    end_call(begin, SECCOMP_RET_ALLOW);
    begin = begin_call(SYS_socket);
    answer_if(BPF_JEQ, 38 /* AF_ALG */, EPERM_ANSWER);
    answer_if(BPF_JEQ, 40 /* AF_VSOCK */, EPERM_ANSWER);
    end_call(begin, SECCOMP_RET_ALLOW);
    begin = begin_call(SYS_personality);
    for (size_t i = 0; i < COUNT(personalities); i++)
        answer_if(BPF_JEQ, personalities[i], SECCOMP_RET_ALLOW);
    end_call(begin, EPERM_ANSWER);
    answer_if(BPF_JGE, 424, SECCOMP_RET_ALLOW);
    answer_if(BPF_JGT, 335, EPERM_ANSWER);
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

int main(int argc, char **argv) {
    if (argc < 2)
        return 98;
    make_filter();
    struct sock_fprog program = {length, filter};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        fail("seccomp");
    execvp(argv[1], argv + 1);
    fail(argv[1]);
}
