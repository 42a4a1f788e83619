/* Cycles of each kind of call. After two fifths of them and after all the process has as many mappings, descriptors, threads
   and children; what there is more of is shown. (Heaps take what they need at the most within the first ones.)

       leaks CYCLES [PRESSURE_MIB]     with so much other memory written beside five of the cycles */
#include "case.h"
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { MEMORY = 64 };

static int cycles, warm; /* how many, and after how many of them the first count is */

extern char **environ;

static void expect(int holds, const char *what) {
    if (!holds)
        fail(what);
}

static void mappings(void) {
    char *at = map_memory(MEMORY * PAGE);
    write_contents(at, MEMORY * PAGE, 1);
    expect(!mprotect(at + 8 * PAGE, 8 * PAGE, PROT_READ), "mprotect");
    expect(!mprotect(at + 8 * PAGE, 8 * PAGE, PROT_READ | PROT_WRITE), "mprotect back");
    expect(!madvise(at + 24 * PAGE, 4 * PAGE, MADV_DONTNEED), "madvise");
    expect(!mlock(at, 4 * PAGE) && !munlock(at, 4 * PAGE), "mlock");
    expect(!munmap(at + 32 * PAGE, 8 * PAGE), "munmap of a part");
    expect(wrong_words(at, 8 * PAGE, 1) == 0, "contents");
    expect(!munmap(at, MEMORY * PAGE), "munmap");
}

static void moves(void) {
    char *at = map_memory(MEMORY * PAGE);
    write_contents(at, PAGE, 2);
    at = mremap(at, MEMORY * PAGE, 2 * MEMORY * PAGE, MREMAP_MAYMOVE);
    expect(at != MAP_FAILED, "mremap to grow");
    at = mremap(at, 2 * MEMORY * PAGE, MEMORY * PAGE, 0);
    expect(at != MAP_FAILED, "mremap to shrink");
    char *other = map_memory(MEMORY * PAGE);
    expect(mremap(at, MEMORY * PAGE, MEMORY * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other) == other, "mremap to move");
    expect(wrong_words(other, PAGE, 2) == 0, "contents that were moved");
    expect(!munmap(other, MEMORY * PAGE), "munmap of what was moved");
}

static void heaps(void) {
    void *blocks[64];
    for (int i = 0; i < 64; i++) {
        blocks[i] = malloc(100UL << i % 12);
        memset(blocks[i], i, 100UL << i % 12);
    }
    for (int i = 0; i < 64; i++)
        free(blocks[i]);
}

static void *in_thread(void *arg) {
    heaps();
    return arg;
}

static void threads(void) {
    pthread_t two[2];
    for (int i = 0; i < 2; i++)
        expect(!pthread_create(&two[i], NULL, in_thread, NULL), "pthread_create");
    for (int i = 0; i < 2; i++)
        pthread_join(two[i], NULL);
}

static void await(pid_t child) {
    int status;
    expect(waitpid(child, &status, 0) == child && status == 0, "a child's end");
}

static void children(char *memory, int cycle) {
    pid_t child = fork();
    expect(child >= 0, "fork");
    if (child == 0) {
        memory[0]++;
        _exit(wrong_words(memory + PAGE, PAGE, 3) != 0);
    }
    await(child);
    if (cycle % (cycles / 10) == 0) {
        char *words[] = {"true", NULL};
        expect(!posix_spawn(&child, "/bin/true", NULL, NULL, words, environ), "posix_spawn");
        await(child);
    }
}

static void descriptors(void *memory) {
    int pair[2], ends[2];
    expect(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair) && !pipe(ends), "socketpair and pipe");
    expect(write(ends[1], memory, PAGE) == (ssize_t)PAGE && read(ends[0], memory, PAGE) == (ssize_t)PAGE, "a pipe");
    expect(send(pair[0], memory, PAGE, 0) == (ssize_t)PAGE && recv(pair[1], memory, PAGE, MSG_WAITALL) == (ssize_t)PAGE,
           "a socket");
    close(pair[0]), close(pair[1]), close(ends[0]), close(ends[1]);
    int file = open("/proc/self/exe", O_RDONLY);
    void *at = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 0);
    expect(file >= 0 && at != MAP_FAILED, "a file");
    munmap(at, PAGE), close(file);
}

static void libraries(void) {
    void *library = dlopen("libutil.so.1", RTLD_NOW);
    if (library)
        dlclose(library);
}

static void cycle(char *memory, int number) {
    mappings();
    moves();
    heaps();
    threads();
    children(memory, number);
    descriptors(memory);
    libraries();
}

static int entries(const char *path) {
    DIR *directory = opendir(path);
    int count = 0;
    while (directory && readdir(directory))
        count++;
    if (directory)
        closedir(directory);
    return count;
}

/* How many lines a file of /proc has; the lines themselves are kept in `text`. */
static int lines(const char *path, char *text, size_t room) {
    FILE *file = fopen(path, "r");
    size_t got = file ? fread(text, 1, room - 1, file) : 0;
    text[got] = 0;
    if (file)
        fclose(file);
    int count = 0;
    for (char *at = text; (at = strchr(at, '\n')); at++)
        count++;
    return count;
}

static char maps[2][256 * 1024];

struct counts {
    int mappings, descriptors, tasks;
};

static struct counts count(int which) {
    usleep(200 * 1000); /* For threads of Quire's that begin or end something. */
    struct counts now = {0, entries("/proc/self/fd"), entries("/proc/self/task")};
    now.mappings = lines("/proc/self/maps", maps[which], sizeof maps[which]);
    return now;
}

/* A heap grows by a mapping now and then, also Quire's own; what a cycle leaks it leaks 24 times at the least, and what is done
   in every tenth part of them six times. */
enum { GROWTH = 4 };

static void compare(const char *what, int before, int after, int growth) {
    printf("%s: %s\n", what, abs(before - after) <= growth ? "as many as before" : "others than before");
    if (abs(before - after) > growth)
        fprintf(stderr, "%s: %d after %d cycles, %d after %d\n", what, before, warm, after, cycles);
}

int main(int argc, char **argv) {
    cycles = argc > 1 ? atoi(argv[1]) : 0;
    warm = cycles / 5 * 2;
    if (cycles < 40)
        return 2;
    size_t pressure = argc > 2 ? strtoul(argv[2], NULL, 10) * MIB : 0;
    char *memory = map_memory(4 * PAGE);
    write_contents(memory + PAGE, PAGE, 3);
    struct counts counts[2] = {{0, 0, 0}, {0, 0, 0}};
    count(0);
    for (int i = 1; i <= cycles; i++) {
        cycle(memory, i);
        if (pressure && i % (cycles / 5) == 5)
            press(pressure);
        if (i == warm || i == cycles)
            counts[i == cycles] = count(i == cycles);
    }
    compare("mappings", counts[0].mappings, counts[1].mappings, GROWTH);
    compare("descriptors", counts[0].descriptors, counts[1].descriptors, 0);
    compare("threads", counts[0].tasks, counts[1].tasks, 0);
    printf("children: %s\n", waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD ? "none" : "some are left");
    if (abs(counts[0].mappings - counts[1].mappings) > GROWTH)
        fprintf(stderr, "%s---\n%s", maps[0], maps[1]);
    return 0;
}
