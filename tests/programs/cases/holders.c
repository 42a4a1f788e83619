/* Pages that the kernel holds without pinning them, for sockets, pipes, disks and other processes: holders MODE DIRECTORY */
#include "holders.h"
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define PIPE_BYTES (1 * MIB)
#define PIPES 4

/* Sends from `at` with MSG_ZEROCOPY what the connection takes while nobody reads. */
static size_t send_held(int fd, const char *at, size_t bytes) {
    size_t sent = 0;
    while (sent < bytes) {
        size_t next = bytes - sent < 64 * KIB ? bytes - sent : 64 * KIB;
        ssize_t took = send(fd, at + sent, next, MSG_ZEROCOPY | MSG_DONTWAIT);
        if (took < 0 && (errno == EAGAIN || errno == ENOBUFS))
            break;
        if (took < 0)
            fail("send");
        sent += took;
    }
    return sent & ~7UL;
}

static void zerocopy(void) {
    enum { CONNECTIONS = 4, BYTES = 2 * MIB };
    int near[CONNECTIONS], far[CONNECTIONS], on = 1;
    size_t sent[CONNECTIONS], bytes = 0, wrong = 0;
    char *contents = map_memory((size_t)CONNECTIONS * BYTES);
    for (int i = 0; i < CONNECTIONS; i++) {
        connect_pair(&near[i], &far[i]);
        if (setsockopt(near[i], SOL_SOCKET, SO_ZEROCOPY, &on, sizeof on) != 0)
            refuse("SO_ZEROCOPY");
        write_contents(contents + (size_t)i * BYTES, BYTES, i);
        bytes += sent[i] = send_held(near[i], contents + (size_t)i * BYTES, BYTES);
    }
    press_long();
    for (int i = 0; i < CONNECTIONS; i++)
        wrong += wrong_arrived(far[i], sent[i], i);
    report("zerocopy", bytes, wrong);
}

/* A pipe of PIPE_BYTES, or less where the limit is lower. */
static size_t open_pipe(int ends[2]) {
    if (pipe(ends) != 0)
        fail("pipe");
    fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES);
    return fcntl(ends[1], F_GETPIPE_SZ);
}

/* Fills a pipe with the pages at `at`. */
static size_t give(int fd, char *at, size_t bytes) {
    size_t given = 0;
    while (given < bytes) {
        struct iovec part = {at + given, bytes - given};
        ssize_t took = vmsplice(fd, &part, 1, SPLICE_F_NONBLOCK);
        if (took < 0 && errno == EAGAIN)
            break;
        if (took < 0)
            refuse("vmsplice");
        given += took;
    }
    return given;
}

static void vmspliced(void) {
    int ends[PIPES][2];
    size_t given[PIPES], bytes = 0, wrong = 0;
    char *contents = map_memory(PIPES * PIPE_BYTES);
    for (int i = 0; i < PIPES; i++) {
        size_t room = open_pipe(ends[i]);
        write_contents(contents + i * PIPE_BYTES, room, i);
        bytes += given[i] = give(ends[i][1], contents + i * PIPE_BYTES, room);
    }
    press_long();
    for (int i = 0; i < PIPES; i++)
        wrong += wrong_arrived(ends[i][0], given[i], i);
    report("vmsplice", bytes, wrong);
}

/* Moves on what is in a pipe, as far as the target takes it. */
static size_t move_on(int from, int to, size_t bytes) {
    size_t moved = 0;
    while (moved < bytes) {
        ssize_t took = splice(from, NULL, to, NULL, bytes - moved, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
        if (took < 0 && errno == EAGAIN)
            break;
        if (took <= 0)
            refuse("splice");
        moved += took;
    }
    return moved;
}

/* Pages of `contents` that were given to a pipe, in other places: copied by tee to another pipe, moved on to a third one. */
struct passed {
    int copy[2], third[2], far;
    size_t copied, moved, sent;
};

static struct passed pass_on(char *contents, uint64_t seed) {
    struct passed all;
    int first[2], near;
    size_t room = open_pipe(first);
    write_contents(contents, 2 * PIPE_BYTES, seed);
    size_t given = give(first[1], contents, room);
    open_pipe(all.copy);
    open_pipe(all.third);
    ssize_t copied = tee(first[0], all.copy[1], given, SPLICE_F_NONBLOCK);
    if (copied <= 0)
        refuse("tee");
    all.copied = copied;
    all.moved = move_on(first[0], all.third[1], given);
    // Others go from a pipe to a socket, as many as it has room for.
    connect_pair(&near, &all.far);
    write_contents(contents + PIPE_BYTES, room, seed + 1);
    given = give(first[1], contents + PIPE_BYTES, room);
    fcntl(near, F_SETFL, O_NONBLOCK);
    all.sent = move_on(first[0], near, given) & ~7UL;
    return all;
}

static void passed_on(void) {
    struct passed all[PIPES], bytes = {0}, wrong = {0};
    char *contents = map_memory(PIPES * 2 * PIPE_BYTES);
    for (int i = 0; i < PIPES; i++)
        all[i] = pass_on(contents + i * 2 * PIPE_BYTES, 2 * i);
    press_long();
    for (int i = 0; i < PIPES; i++) {
        bytes.copied += all[i].copied;
        bytes.moved += all[i].moved;
        bytes.sent += all[i].sent;
        wrong.copied += wrong_arrived(all[i].copy[0], all[i].copied, 2 * i);
        wrong.moved += wrong_arrived(all[i].third[0], all[i].moved, 2 * i);
        wrong.sent += wrong_arrived(all[i].far, all[i].sent, 2 * i + 1);
    }
    report("tee", bytes.copied, wrong.copied);
    report("splice to a pipe", bytes.moved, wrong.moved);
    report("splice to a socket", bytes.sent, wrong.sent);
}

/* Direct I/O of one thread, while the other presses. */
enum { DIRECT_BYTES = 4 * MIB, DIRECT_STEP = 256 * KIB };
static int direct_file;
static atomic_int finished;
static size_t direct_wrong, direct_transfers;

static void *read_and_write(void *at) {
    char *from = at, *to = from + DIRECT_BYTES;
    for (uint64_t round = 0; !atomic_load(&finished) || round < 2; round++) {
        write_contents(from, DIRECT_BYTES, round);
        for (size_t i = 0; i < DIRECT_BYTES; i += DIRECT_STEP)
            if (pwrite(direct_file, from + i, DIRECT_STEP, i) != DIRECT_STEP)
                fail("pwrite");
        for (size_t i = 0; i < DIRECT_BYTES; i += DIRECT_STEP)
            if (pread(direct_file, to + i, DIRECT_STEP, i) != DIRECT_STEP)
                fail("pread");
        direct_wrong += wrong_words(to, DIRECT_BYTES, round) + wrong_words(from, DIRECT_BYTES, round);
        direct_transfers += 2 * DIRECT_BYTES;
    }
    return NULL;
}

static void direct(const char *directory) {
    char path[4096];
    snprintf(path, sizeof path, "%s/direct-XXXXXX", directory);
    int file = mkstemp(path);
    if (file < 0)
        fail(path);
    direct_file = open(path, O_RDWR | O_DIRECT);
    unlink(path);
    if (direct_file < 0)
        refuse("O_DIRECT");
    pthread_t thread;
    if (pthread_create(&thread, NULL, read_and_write, map_memory(2 * DIRECT_BYTES)) != 0)
        fail("pthread_create");
    press_long();
    atomic_store(&finished, 1);
    pthread_join(thread, NULL);
    report("direct I/O", direct_transfers, direct_wrong);
}

/* Another process reads and writes this one's memory, which is pressed meanwhile. */
enum { REMOTE_BYTES = 4 * MIB };

static void serve_remote(pid_t owner, int orders) {
    char *at;
    size_t wrong = 0;
    if (read(orders, &at, sizeof at) != sizeof at)
        exit(1);
    for (uint64_t round = 0; round < 4; round++)
        for (size_t i = 0; i < REMOTE_BYTES; i += PIECE) {
            struct iovec here = {piece, PIECE}, there = {at + i, PIECE};
            if (process_vm_readv(owner, &here, 1, &there, 1, 0) != (ssize_t)PIECE)
                exit(2);
            wrong += wrong_in_piece(i, PIECE, 1);
            there.iov_base = at + REMOTE_BYTES + i;
            if (process_vm_writev(owner, &here, 1, &there, 1, 0) != (ssize_t)PIECE)
                exit(2);
        }
    exit(wrong == 0 ? 0 : 3);
}

static void remote(void) {
    int orders[2], status;
    if (pipe(orders) != 0)
        fail("pipe");
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    pid_t owner = getpid(), other = fork();
    if (other == 0)
        serve_remote(owner, orders[0]);
    char *at = map_memory(2 * REMOTE_BYTES);
    write_contents(at, REMOTE_BYTES, 1);
    press(PRESSURE);
    if (write(orders[1], &at, sizeof at) != sizeof at)
        fail("write");
    press_long();
    if (waitpid(other, &status, 0) != other)
        fail("waitpid");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
        printf("skip: process_vm_readv is refused\n");
    else if (status != 0)
        printf("the other process read what was not there: status %d\n", status);
    report("written by another process", REMOTE_BYTES, wrong_words(at + REMOTE_BYTES, REMOTE_BYTES, 1));
}

int main(int argc, char **argv) {
    const char *mode = argc > 2 ? argv[1] : "";
    if (strcmp(mode, "zerocopy") == 0)
        zerocopy();
    else if (strcmp(mode, "vmsplice") == 0)
        vmspliced();
    else if (strcmp(mode, "splice") == 0)
        passed_on();
    else if (strcmp(mode, "direct") == 0)
        direct(argv[2]);
    else if (strcmp(mode, "remote") == 0)
        remote();
    else
        return 2;
    return 0;
}
