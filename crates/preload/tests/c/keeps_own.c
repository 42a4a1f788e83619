/* A program that brings its own malloc keeps it, for the whole family. */
#define _GNU_SOURCE
#include "check.h"
#include <malloc.h>
#include <stdint.h>
#include <string.h>

int own_has(void *p);
extern size_t own_freed;

int main(void) {
    char *p = malloc(100);
    CHECK(own_has(p));
    CHECK(own_has(p = realloc(p, 1000)) && malloc_usable_size(p) == 1000);
    size_t before = own_freed;
    free(p);
    CHECK(own_freed == before + 1);
    CHECK(own_has(p = calloc(3, 5)) && p[14] == 0);
    CHECK(own_has(p = reallocarray(p, 10, 10)));
    CHECK(own_has(p = memalign(256, 10)) && (uintptr_t)p % 256 == 0);
    CHECK(own_has(p = aligned_alloc(64, 64)) && (uintptr_t)p % 64 == 0);
    CHECK(posix_memalign((void **)&p, 4096, 10) == 0 && own_has(p));
    p = strdup("from libc");
    CHECK(!strcmp(p = realloc(p, 50000), "from libc") && own_has(p));
    free(p);
    puts("own ok");
    return 0;
}
