/* A library with a malloc of its own: never frees, knows its blocks. */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <malloc.h>

static _Alignas(4096) char pool[64 << 20];
static size_t used;
size_t own_freed;

int own_has(void *p) { return (char *)p >= pool && (char *)p < pool + sizeof pool; }

static void *take(size_t align, size_t size) {
    size_t at = (__atomic_fetch_add(&used, size + align + 16, __ATOMIC_RELAXED) + 16 + align - 1) / align * align;
    if (at + size > sizeof pool) return NULL;
    *(size_t *)(pool + at - 16) = size;
    return pool + at;
}
void *malloc(size_t size) { return take(16, size); }
void free(void *p) { if (p) __atomic_fetch_add(&own_freed, 1, __ATOMIC_RELAXED); }
void *calloc(size_t n, size_t size) { return take(16, n * size); }
size_t malloc_usable_size(void *p) { return p ? *(size_t *)((char *)p - 16) : 0; }
void *realloc(void *p, size_t size) {
    void *to = take(16, size);
    if (p && to) memcpy(to, p, malloc_usable_size(p) < size ? malloc_usable_size(p) : size);
    return to;
}
int posix_memalign(void **p, size_t align, size_t size) { return (*p = take(align, size)) ? 0 : ENOMEM; }
void *memalign(size_t align, size_t size) { return take(align, size); }
void *aligned_alloc(size_t align, size_t size) { return take(align, size); }
