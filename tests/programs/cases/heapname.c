/* Whether libc's own malloc serves this program, and in how many bytes it counts what was allocated. */
#include "case.h"

#include <malloc.h>

int main(void) {
    char *blocks[100];
    for (int i = 0; i < 100; i++) {
        blocks[i] = malloc(10000);
        memset(blocks[i], i, 10000);
    }
    struct mallinfo2 info = mallinfo2();
    printf("libc's malloc: %s\n", info.uordblks >= 1000000 ? "yes" : "no");
    for (int i = 0; i < 100; i++)
        free(blocks[i]);
    return 0;
}
