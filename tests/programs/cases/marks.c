/* Memory that a forked child gets empty, or not at all (MADV_WIPEONFORK, MADV_DONTFORK), and where these marks go when it
 * moves. Prints what the child finds. */
#include "case.h"
#include <signal.h>
#include <sys/wait.h>

enum { PAGES = 16 };

static char *step(char *at) {
    if (at == MAP_FAILED)
        fail("mremap");
    return at;
}

/* What a child finds in each page: '.' nothing, '0' zero, else a digit. Asked page by page, each by a child of its own. */
static void show_child(const char *what, const char *at, int pages) {
    printf("%s: ", what);
    fflush(stdout);
    for (int i = 0; i < pages; i++) {
        pid_t child = fork();
        if (child == 0) {
            signal(SIGSEGV, SIG_DFL);
            _exit(*(volatile const char *)(at + i * PAGE));
        }
        int status;
        if (waitpid(child, &status, 0) != child)
            fail("waitpid");
        putchar(WIFEXITED(status) ? '0' + WEXITSTATUS(status) : WTERMSIG(status) == SIGSEGV ? '.' : '!');
    }
    putchar('\n');
}

static char *marked(int advice) {
    char *at = map_memory(PAGES * PAGE);
    memset(at, 1, PAGES * PAGE);
    if (madvise(at, PAGES * PAGE, advice) != 0)
        fail("madvise");
    return at;
}

static void follow(const char *name, int advice) {
    printf("%s\n", name);
    char *at = step(mremap(marked(advice), PAGES * PAGE, 2 * PAGES * PAGE, MREMAP_MAYMOVE));
    memset(at + PAGES * PAGE, 2, PAGES * PAGE);
    show_child("grown", at + (PAGES - 2) * PAGE, 4);
    at = step(mremap(at, 2 * PAGES * PAGE, 3 * PAGES * PAGE, MREMAP_MAYMOVE));
    memset(at + 2 * PAGES * PAGE, 3, PAGES * PAGE);
    show_child("grown again", at + (2 * PAGES - 2) * PAGE, 4);
    char *to = map_memory(4 * PAGES * PAGE);
    at = step(mremap(at, 3 * PAGES * PAGE, 4 * PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to));
    memset(at + 3 * PAGES * PAGE, 4, PAGES * PAGE);
    show_child("moved and grown", at + (3 * PAGES - 2) * PAGE, 4);
    /* What is mapped where it was has no mark. */
    char *again = mmap(at, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memset(again, 5, 2 * PAGE);
    show_child("mapped anew", again, 3);
    munmap(at, 4 * PAGES * PAGE);
    for (int i = 0; i < 20; i++) {
        char *fresh = map_memory(PAGES * PAGE);
        memset(fresh, 6, PAGES * PAGE);
        if (i == 19)
            show_child("fresh", fresh, 2);
    }
    at = marked(advice);
    char *copy = step(mremap(at, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL));
    memset(at, 7, PAGES * PAGE);
    show_child("left behind", at, 2);
    show_child("moved away from it", copy, 2);
    madvise(copy, PAGES * PAGE, advice == MADV_DONTFORK ? MADV_DOFORK : MADV_KEEPONFORK);
    press(32 * MIB);
    show_child("mark taken off", copy, 2);
    char *far_away = (char *)0x10000000000;
    at = step(mremap(at, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, far_away));
    show_child("moved far away", at, 2);
    munmap(at, PAGES * PAGE);
}

int main(void) {
    follow("WIPEONFORK", MADV_WIPEONFORK);
    follow("DONTFORK", MADV_DONTFORK);
    return 0;
}
