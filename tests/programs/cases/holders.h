/* What the programs about holders share. Each mode lets the kernel hold pages of the program, presses them out of memory
   while it does, and looks at what arrives in the end. */
#ifndef HOLDERS_H
#define HOLDERS_H
#include "case.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>

/* Pressure between sending and receiving: several times what the budget of the test allows. */
#define PRESSURE (30 * MIB)
#define ROUNDS 3
/* What is received goes through a buffer that is not managed, piece by piece. */
#define PIECE (64 * KIB)

static char piece[PIECE] __attribute__((aligned(4096)));

/* The machine does not let programs do this: no failure, if it is so natively too. */
static inline void refuse(const char *what) {
    printf("skip: %s: %s\n", what, strerror(errno));
    exit(0);
}

static inline void press_long(void) {
    for (int round = 0; round < ROUNDS; round++)
        press(PRESSURE);
}

/* How many words of `piece`, which holds `bytes` from byte `from` of the contents on, are not those of `seed`. */
static inline size_t wrong_in_piece(size_t from, size_t bytes, uint64_t seed) {
    const uint64_t *words = (const uint64_t *)piece;
    size_t wrong = 0;
    for (size_t i = 0; i < bytes / 8; i++)
        wrong += words[i] != word_of(seed, from / 8 + i);
    return wrong;
}

/* Reads `bytes` of the contents of `seed` from a pipe or a socket. How many words are wrong. */
static inline size_t wrong_arrived(int fd, size_t bytes, uint64_t seed) {
    size_t wrong = 0;
    for (size_t at = 0, had; at < bytes; at += had) {
        size_t wanted = bytes - at < PIECE ? bytes - at : PIECE;
        for (had = 0; had < wanted;) {
            ssize_t got = read(fd, piece + had, wanted - had);
            if (got <= 0)
                fail("read");
            had += got;
        }
        wrong += wrong_in_piece(at, had, seed);
    }
    return wrong;
}

static inline void report(const char *what, size_t bytes, size_t wrong) {
    if (bytes < 64 * PAGE)
        printf("%s: only %zu bytes were held\n", what, bytes);
    printf("%s: %zu words are wrong\n", what, wrong);
    fprintf(stderr, "%s: %zu words held\n", what, bytes / 8);
}

/* A connection over the loopback whose far end takes little before it is read: what is sent waits at the near one. */
static inline void connect_pair(int *near, int *far) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), little = 16 * KIB, much = 16 * MIB;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &length) != 0)
        fail("listen");
    *near = socket(AF_INET, SOCK_STREAM, 0);
    if (setsockopt(*near, SOL_SOCKET, SO_SNDBUFFORCE, &much, sizeof much) != 0)
        setsockopt(*near, SOL_SOCKET, SO_SNDBUF, &much, sizeof much);
    if (connect(*near, (struct sockaddr *)&at, sizeof at) != 0)
        fail("connect");
    *far = accept(listener, NULL, NULL);
    if (*far < 0)
        fail("accept");
    close(listener);
}

#endif
