/* Says how it was started, and ends with status 7. For builds with other libcs and without any: only plain C. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int main(int argc, char **argv) {
    const char *pause = getenv("HELLO_MS");
    if (pause != NULL) {
        struct timespec time = {atoi(pause) / 1000, atoi(pause) % 1000 * 1000000L};
        nanosleep(&time, NULL);
    }
    printf("hello %s\n", argc > 1 ? argv[argc - 1] : "alone");
    char *block = malloc(100000);
    memset(block, 1, 100000);
    printf("%d\n", block[99999]);
    fflush(stdout);
    if (argc == 3 && strcmp(argv[1], "run") == 0)
        return system(argv[2]) / 256;
    return 7;
}
