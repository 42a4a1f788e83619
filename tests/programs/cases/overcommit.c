/* How much memory may be had, by the kernel's mode (/proc/sys/vm/overcommit_memory). The first argument: `asks` in the mode that is,
   `changes` asks in one mode after the other, which it sets. Nothing of it is touched but a few pages. */
#include "case.h"
#include <fcntl.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>

#define GIB (1024UL * MIB)
enum { NEW = MAP_PRIVATE | MAP_ANONYMOUS, RW = PROT_READ | PROT_WRITE };

static void put(const char *name, const char *value) {
    char path[64];
    snprintf(path, sizeof path, "/proc/sys/vm/%s", name);
    int file = open(path, O_WRONLY);
    if (file < 0 || write(file, value, strlen(value)) < 0)
        fail(path);
    close(file);
}

static int mode(void) {
    char byte = '?';
    int file = open("/proc/sys/vm/overcommit_memory", O_RDONLY);
    if (file < 0 || read(file, &byte, 1) != 1)
        fail("overcommit_memory");
    close(file);
    return byte - '0';
}

/* Of /proc/meminfo, in bytes. */
static unsigned long meminfo(const char *name) {
    char text[8192];
    int file = open("/proc/meminfo", O_RDONLY);
    ssize_t length = read(file, text, sizeof text - 1);
    if (length < 0)
        fail("meminfo");
    close(file);
    text[length] = 0;
    return strtoul(strstr(text, name) + strlen(name), NULL, 10) * KIB;
}

static unsigned long left(void) {
    struct sysinfo info;
    sysinfo(&info);
    if (mode() == 2)
        return meminfo("CommitLimit:") - meminfo("Committed_AS:");
    return (info.totalram + info.totalswap) * info.mem_unit;
}

static void say(const char *what, const void *answer) {
    printf("%s: %s\n", what, answer == MAP_FAILED ? strerror(errno) : "given");
    errno = 0;
}

static char *ask(const char *what, unsigned long bytes, int rights, int flags) {
    char *at = mmap(NULL, bytes, rights, NEW | flags, -1, 0);
    say(what, at);
    return at;
}

static void drop(char *at, unsigned long bytes) {
    if (at != MAP_FAILED && munmap(at, bytes) != 0)
        fail("munmap");
}

static void asks(void) {
    unsigned long all = left(), much = all / GIB * GIB + 2 * GIB, most = all / 8 * 5 / (2 * MIB) * (2 * MIB);
    printf("mode %d\n", mode());
    drop(ask("more than there is", much, RW, 0), much);
    drop(ask("without reserve", much, RW, MAP_NORESERVE), much);
    drop(ask("read-only", much, PROT_READ, 0), much);
    char *none = ask("without access", much, PROT_NONE, 0);
    say("made writable", mprotect(none, much, RW) ? MAP_FAILED : NULL);
    say("most of it made writable", mprotect(none, most, RW) ? MAP_FAILED : NULL);
    drop(none, much);
    char *first = ask("most of it", most, RW, 0);
    strcpy(first, "the first word");
    strcpy(first + most - PAGE, "the last word");
    drop(ask("and once more", most, RW, 0), most);
    char *small = map_memory(PAGE), *grown = mremap(small, PAGE, most, MREMAP_MAYMOVE);
    say("and by growing", grown);
    drop(grown == MAP_FAILED ? small : grown, grown == MAP_FAILED ? PAGE : most);
    char *to = ask("a place for it", most, PROT_NONE, MAP_NORESERVE);
    char *moved = mremap(first, most, most, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    say("moved", moved);
    printf("%s, %s\n", moved, moved + most - PAGE);
    drop(moved, most);
    for (unsigned long i = 0; i < 3; i++) {
        char *again = ask("again", most + i * 2 * MIB, RW, 0);
        if (again != MAP_FAILED)
            again[0] = 1;
        drop(again, most + i * 2 * MIB);
    }
    char *end = sbrk(0);
    say("by brk", sbrk(much));
    brk(end);
}

/* A child has what its parent has, and memory of its own. */
static void forks(void) {
    static char *kept;
    if (kept == NULL)
        write_contents(kept = map_memory(MIB), MIB, 3);
    pid_t child = fork();
    if (child == 0) {
        char *more = map_memory(MIB);
        write_contents(more, MIB, 4);
        _exit(wrong_words(kept, MIB, 3) != 0 || wrong_words(more, MIB, 4) != 0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child)
        fail("fork");
    printf("a child: %d\n", status);
}

static void changes(void) {
    static const char *const modes[] = {"0", "1", "2", "0"};
    char limit[32];
    snprintf(limit, sizeof limit, "%lu", (meminfo("Committed_AS:") + 16 * GIB) / KIB);
    put("overcommit_kbytes", limit);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        put("overcommit_memory", modes[i]);
        asks();
        fflush(stdout);
        forks();
    }
}

int main(int count, char **args) {
    if (count > 1 && strcmp(args[1], "changes") == 0)
        changes();
    else
        asks();
    return 0;
}
