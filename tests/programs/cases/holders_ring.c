/* Pages that an io_uring holds: those of a send without a copy, and registered buffers. holders_ring MODE DIRECTORY */
#include "holders.h"
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define ENTRIES 64

static int ring;
static struct io_uring_params params;
static char *submissions, *completions;
static struct io_uring_sqe *entries;

static void *map_ring(size_t bytes, off_t offset) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, offset);
    if (at == MAP_FAILED)
        fail("the ring");
    return at;
}

static void open_ring(void) {
    ring = syscall(SYS_io_uring_setup, ENTRIES, &params);
    if (ring < 0)
        refuse("io_uring_setup");
    submissions = map_ring(params.sq_off.array + params.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
    completions = map_ring(params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
    entries = map_ring(params.sq_entries * sizeof *entries, IORING_OFF_SQES);
}

static unsigned *field(char *of, unsigned offset) {
    return (unsigned *)(of + offset);
}

/* Takes the next completion. Whether it is the result of an entry, and not only news that the kernel has let go of pages. */
static int take(int *result) {
    unsigned *head = field(completions, params.cq_off.head), at = *head;
    if (at == atomic_load((_Atomic unsigned *)field(completions, params.cq_off.tail)))
        return 0;
    struct io_uring_cqe *all = (struct io_uring_cqe *)(completions + params.cq_off.cqes);
    struct io_uring_cqe *one = &all[at & *field(completions, params.cq_off.ring_mask)];
    int is_news = (one->flags & IORING_CQE_F_NOTIF) != 0;
    *result = one->res;
    atomic_store((_Atomic unsigned *)head, at + 1);
    return is_news ? take(result) : 1;
}

/* Has the kernel do one entry, and waits for what it comes to. */
static int perform(const struct io_uring_sqe *entry) {
    unsigned *tail = field(submissions, params.sq_off.tail), at = *tail & *field(submissions, params.sq_off.ring_mask);
    int result;
    entries[at] = *entry;
    field(submissions, params.sq_off.array)[at] = at;
    atomic_store((_Atomic unsigned *)tail, *tail + 1);
    if (syscall(SYS_io_uring_enter, ring, 1, 0, 0, NULL, 0) != 1)
        fail("io_uring_enter");
    while (!take(&result))
        syscall(SYS_io_uring_enter, ring, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
    return result;
}

static void send_without_copy(void) {
    enum { BYTES = 4 * MIB };
    int near, far;
    char *contents = map_memory(BYTES);
    write_contents(contents, BYTES, 1);
    connect_pair(&near, &far);
    size_t sent = 0;
    while (sent < BYTES) {
        struct io_uring_sqe entry = {
            .opcode = IORING_OP_SEND_ZC,
            .fd = near,
            .addr = (uintptr_t)(contents + sent),
            .len = BYTES - sent < 64 * KIB ? BYTES - sent : 64 * KIB,
            .msg_flags = MSG_DONTWAIT,
        };
        int took = perform(&entry);
        if (took == -EAGAIN || took == -ENOBUFS)
            break;
        errno = -took;
        if (took < 0)
            refuse("IORING_OP_SEND_ZC");
        sent += took;
    }
    press_long();
    report("SEND_ZC", sent, wrong_arrived(far, sent & ~7UL, 1));
}

/* A whole registered buffer to the start of a file, or from there. */
static void transfer(int opcode, int file, const struct iovec *buffers, int number) {
    struct io_uring_sqe entry = {
        .opcode = opcode,
        .fd = file,
        .addr = (uintptr_t)buffers[number].iov_base,
        .len = buffers[number].iov_len,
        .buf_index = number,
    };
    int took = perform(&entry);
    errno = -took;
    if (took != (int)buffers[number].iov_len)
        fail("a registered buffer");
}

static size_t wrong_in_file(int file, size_t bytes, uint64_t seed) {
    if (lseek(file, 0, SEEK_SET) != 0)
        fail("lseek");
    return wrong_arrived(file, bytes, seed);
}

/* What is written to registered buffers later is what the kernel sees, and what it writes the program sees. */
static void fixed(const char *directory) {
    enum { BYTES = 2 * MIB };
    char path[4096];
    snprintf(path, sizeof path, "%s/fixed-XXXXXX", directory);
    int file = mkstemp(path);
    if (file < 0)
        fail(path);
    unlink(path);
    struct iovec buffers[2] = {{map_memory(BYTES), BYTES}, {map_memory(BYTES), BYTES}};
    write_contents(buffers[0].iov_base, BYTES, 1);
    write_contents(buffers[1].iov_base, BYTES, 1);
    press(PRESSURE);
    if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, buffers, 2) != 0)
        refuse("IORING_REGISTER_BUFFERS");
    press(PRESSURE);
    write_contents(buffers[0].iov_base, BYTES, 2);
    press(PRESSURE);
    transfer(IORING_OP_WRITE_FIXED, file, buffers, 0);
    report("written from a registered buffer", BYTES, wrong_in_file(file, BYTES, 2));
    transfer(IORING_OP_READ_FIXED, file, buffers, 1);
    press(PRESSURE);
    report("read into a registered buffer", BYTES, wrong_words(buffers[1].iov_base, BYTES, 2));
}

int main(int argc, char **argv) {
    const char *mode = argc > 2 ? argv[1] : "";
    open_ring();
    if (strcmp(mode, "send_zc") == 0)
        send_without_copy();
    else if (strcmp(mode, "fixed") == 0)
        fixed(argv[2]);
    else
        return 2;
    return 0;
}
