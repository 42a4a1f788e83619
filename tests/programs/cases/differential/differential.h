/* Calls on memory, made on the kernel's own memory and on the library's side by side: result, errno and what they did.

   A set is a call with arguments; its addresses are relative to a window of 16 pages that is laid out in a certain way, in
   the middle of a zone of otherwise unmapped pages. Each set has a zone of its own, one of each kind. */
#ifndef DIFFERENTIAL_H
#define DIFFERENTIAL_H
#include <stdbool.h>
#include <stddef.h>

#include "../case.h"
#include <sys/syscall.h>

#define WINDOW_PAGES 16
#define ZONE_PAGES 64
#define BEFORE_PAGES 24
#define ZONE (ZONE_PAGES * PAGE)

/* Numbers of our own, for functions of libc's that are not a system call. */
#define POSIX_MADVISE 100001

/* How a call is made: in assembly, by libc's function, by libc's syscall(). */
struct way {
    const char *name;
    /* The result, or -errno. */
    long (*call)(long number, const long *args);
};
extern const struct way by_kernel, by_libc, by_number;

/* What a set is tried on: the window begins at `base`. */
struct zone {
    const struct way *way;
    char *base;
    /* A file that is mapped there, or -1. */
    int file;
    long result;
    /* What mincore was given, page by page. */
    unsigned char vector[ZONE_PAGES];
};

/* `call` with numbers and pointers of any kind. */
#define CALL(way, number, ...) ((way)->call((number), (const long[6]){__VA_ARGS__}))

struct layout {
    const char *name;
    void (*make)(struct zone *zone);
    /* Whether pages may hold contents that leave, so that it is worth trying after pressure. */
    bool evictable;
};
extern const struct layout layouts[];
extern const size_t layout_count;
/* The contents of page `page` of the window, and those of the file. */
#define OWN_SEED 100
#define FILE_SEED 200
void make_zone(struct zone *zone, const struct layout *layout);
/* A file of 16 pages, where the layout has none. */
void give_file(struct zone *zone);
void drop_zone(struct zone *zone);

enum kind { NUMBER, ADDRESS, VECTOR, BAD_POINTER, DESCRIPTOR };
struct arg {
    enum kind kind;
    long value;
};
struct set {
    const struct layout *layout;
    long number;
    const char *name;
    int count;
    struct arg args[6];
};
/* Calls `use` for each set. */
void each_set(void (*use)(const struct set *set));
/* "layout: call(arguments)". */
void name_set(const struct set *set, char *text, size_t size);
void perform_set(const struct set *set, struct zone *zone);

/* Which of the effects count. */
struct compared {
    bool residency;
    /* Contents may have become zeroes. */
    bool loose;
    /* Contents are not named. */
    bool unnamed;
};
/* What the kernel knows of a mapping. */
struct mapping {
    char *start, *end;
    char rights[5];
    /* Private and anonymous. */
    bool plain;
    bool locked, dont_fork, wipe_on_fork;
};
/* Reads what it knows of all mappings. */
void read_mappings(void);
/* The one at an address, as it was then, or NULL. */
const struct mapping *mapping_at(const char *at);
/* Result and effects as text. It changes the zone. */
void describe(const struct set *set, struct zone *zone, struct compared compared, char *text, size_t size);

/* A touch of memory, and the signal that came of it, if any. */
enum touch { READ, WRITE, EXECUTE };
struct touched {
    int number, code;
    /* Of the address that the handler was told, from that of the touch. */
    long offset;
};
void catch_faults(void);
void touch(char *at, enum touch how, struct touched *touched);

/* Touches pages that are not to be touched; prints the differences. Returns how many touches there were. */
size_t compare_faults(char *kernel_area, char *area, const struct way *way);

/* Calls on the whole process, in sequences: whether `number` is one, arguments by chance, and the call for one of the zones. */
bool is_whole(long number);
void make_whole(long number, long *args, long place, long length, long choice);
long perform_whole(struct zone *zone, long number, const long *args);
/* Whether all memory can be locked alike; whether new mappings are locked, and that for the kernel's zone. */
bool may_lock_all(const struct zone *zone, bool has_stack);
bool locks_what_comes(void);
void lock_what_came(struct zone *zone, long at, long length);
/* At the end of a sequence: the process is as before. */
void end_whole(struct zone *ours);

struct walk_options {
    const struct way *way;
    /* Of the first sequence; how many there are; calls of each. */
    uint64_t seed, walks;
    size_t steps;
    /* What is pressed with before some of them, in bytes. */
    size_t pressure;
};
/* Makes sequences of random calls on both, and prints the first differences. Returns how many calls there were. */
size_t walk(char *kernel_area, char *area, const struct walk_options *options);

#endif
