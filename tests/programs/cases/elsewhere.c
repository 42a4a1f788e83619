/* Memory that does not come through libc's calls, kept for a moment: elsewhere MIB raw|fixed|bss */
#include "case.h"

#include <sys/syscall.h>

#define MOST (512 * MIB)

static char bss[MOST];

/* mmap without libc. */
static char *map_raw(void *where, size_t bytes, int flags) {
    register long r10 __asm__("r10") = MAP_PRIVATE | MAP_ANONYMOUS | flags;
    register long r8 __asm__("r8") = -1;
    register long r9 __asm__("r9") = 0;
    char *at;
    __asm__ volatile("syscall"
                     : "=a"(at)
                     : "a"(SYS_mmap), "D"(where), "S"(bytes), "d"(PROT_READ | PROT_WRITE), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return at;
}

static char *memory(const char *kind, size_t bytes) {
    if (strcmp(kind, "raw") == 0)
        return map_raw(NULL, bytes, 0);
    if (strcmp(kind, "fixed") == 0)
        return mmap((void *)0x200000000000, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return bss;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 98;
    size_t bytes = strtoul(argv[1], NULL, 10) * MIB;
    char *at = memory(argv[2], bytes);
    write_contents(at, bytes, 5);
    usleep(400000);
    printf("%zu wrong\n", wrong_words(at, bytes, 5));
    return 0;
}
