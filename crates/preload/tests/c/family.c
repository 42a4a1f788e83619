/* The malloc family keeps C's and glibc's promises, from several threads, and for what libc allocates. */
#define _GNU_SOURCE
#include "check.h"
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

static volatile size_t huge = SIZE_MAX - 4096;
static int few; /* with an argument: fewer rounds */

static void alignments(void) {
    for (size_t align = sizeof(void *); align <= 8 << 20; align *= 2) {
        void *p = NULL;
        CHECK(posix_memalign(&p, align, 100) == 0 && (uintptr_t)p % align == 0);
        memset(p, 1, 100);
        free(p);
        p = aligned_alloc(align, 5 * align);
        CHECK(p && (uintptr_t)p % align == 0);
        p = realloc(p, 6 * align);
        CHECK(p);
        free(p);
    }
    void *p = (void *)1;
    CHECK(posix_memalign(&p, 24, 100) == EINVAL && p == (void *)1);
    CHECK(posix_memalign(&p, 4, 100) == EINVAL);
    p = memalign(24, 100); /* rounded up */
    CHECK(p && (uintptr_t)p % 32 == 0);
    free(p);
    p = valloc(10);
    CHECK(p && (uintptr_t)p % 4096 == 0);
    free(p);
    p = pvalloc(4097);
    CHECK(p && (uintptr_t)p % 4096 == 0 && malloc_usable_size(p) >= 8192);
    free(p);
}

static void sizes(void) {
    free(NULL);
    CHECK(malloc_usable_size(NULL) == 0);
    void *p = malloc(0);
    CHECK(p);
    CHECK(realloc(p, 0) == NULL);
    errno = 0;
    CHECK(malloc(huge) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(calloc(huge, 2) == NULL && errno == ENOMEM);
    p = malloc(10);
    errno = 0;
    CHECK(reallocarray(p, huge, 2) == NULL && errno == ENOMEM);
    CHECK((p = reallocarray(p, 1000, 1000)));
    CHECK(malloc_usable_size(p) >= 1000000);
    free(p);
    for (size_t size = 1; size < 64 << 20; size = size * 3 + 1) {
        char *z = calloc(1, size);
        CHECK(z && z[0] == 0 && z[size - 1] == 0 && malloc_usable_size(z) >= size);
        memset(z, 7, size);
        z = realloc(z, size * 2);
        CHECK(z && z[0] == 7 && z[size - 1] == 7);
        z = realloc(z, size / 2 + 1);
        CHECK(z && z[size / 2] == 7);
        free(z);
    }
}

/* From each size to each other, with contents that tell. */
static void sizes_in_between(void) {
    static const size_t steps[] = {100, 256, 257, 300, 1024, 1025, 4096, 4097, 4376, 5120, 65536, 65537, 131072, 131073, 140000, 200000};
    enum { STEPS = sizeof steps / sizeof *steps };
    for (int from = 0; from < STEPS; from += few ? 3 : 1)
        for (int to = 0; to < STEPS; to++) {
            unsigned char *p = malloc(steps[from]), *between = malloc(steps[from]);
            CHECK(p && (uintptr_t)p % 16 == 0 && malloc_usable_size(p) >= steps[from]);
            size_t usable = malloc_usable_size(p);
            for (size_t i = 0; i < usable; i++) p[i] = (unsigned char)(i * 31 >> 3);
            p = realloc(p, steps[to]);
            CHECK(p && (uintptr_t)p % 16 == 0 && malloc_usable_size(p) >= steps[to]);
            size_t kept = steps[from] < steps[to] ? steps[from] : steps[to];
            for (size_t i = 0; i < kept; i++) CHECK(p[i] == (unsigned char)(i * 31 >> 3));
            free(between), free(p);
            unsigned char *zeroes = calloc(1, steps[to]);
            for (size_t i = 0; i < steps[to]; i++) CHECK(zeroes[i] == 0);
            free(zeroes);
        }
}

static void from_libc(void) {
    char *text = strdup("small"), *long_text = malloc(10001), *copy, *printed = NULL, *stream = NULL;
    size_t length = 0;
    memset(long_text, 'x', 10000);
    long_text[10000] = 0;
    copy = strdup(long_text);
    CHECK(!strcmp(text, "small") && !strcmp(copy, long_text) && malloc_usable_size(text) >= 6);
    text = realloc(text, 100000);
    CHECK(!strcmp(text, "small"));
    CHECK(asprintf(&printed, "%s%s", text, copy) == 10005);
    FILE *out = open_memstream(&stream, &length);
    for (int i = 0; i < 10000; i++) fprintf(out, "%d ", i);
    CHECK(fclose(out) == 0 && strlen(stream) == length);
    free(text), free(long_text), free(copy), free(printed), free(stream);
    char **many = malloc(200000 * sizeof *many);
    for (int i = 0; i < 200000; i++) CHECK((many[i] = strdup("some forty bytes of text, give or take")));
    for (int i = 0; i < 200000; i++) free(many[i]);
    free(many);
}

static void *_Atomic exchange[64];

static void *churn(void *seed) {
    unsigned state = (unsigned)(uintptr_t)seed;
    for (int i = 0; i < (few ? 20000 : 200000); i++) {
        state = state * 1664525 + 1013904223;
        size_t size = (state >> 8) % (state % 100 ? 2000 : 300000) + 2 * sizeof(size_t);
        size_t *p = i % 7 ? malloc(size) : (size_t *)calloc(1, size);
        CHECK(p);
        p[0] = size;
        ((char *)p)[size - 1] |= 1;
        p = __atomic_exchange_n((void **)&exchange[state >> 26], p, __ATOMIC_ACQ_REL);
        CHECK(!p || malloc_usable_size(p) >= p[0]);
        free(p); /* mostly another thread's */
    }
    return NULL;
}

int main(int argc, char **argv) {
    (void)argv;
    few = argc > 1;
    alignments();
    sizes();
    sizes_in_between();
    from_libc();
    for (int round = 0; round < (few ? 1 : 3); round++) {
        pthread_t threads[4];
        for (intptr_t i = 0; i < 4; i++) CHECK(!pthread_create(&threads[i], NULL, churn, (void *)(i + 1)));
        for (int i = 0; i < 4; i++) CHECK(!pthread_join(threads[i], NULL));
        void *lib = dlopen("libm.so.6", RTLD_NOW);
        CHECK(lib && dlsym(lib, "cos") && !dlsym(lib, "no such name") && dlerror() && !dlclose(lib));
    }
    puts("family ok");
    return 0;
}
