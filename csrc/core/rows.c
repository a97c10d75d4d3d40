/*
 * rows.c - memory that grows without being copied: on the heap where it is small, else a mapping of
 * its own (Linux), of the largest size that may be needed. Only what is written takes memory.
 */
#include "rows.h"

#include <stdlib.h>
#include <string.h>

/* Before the items, a cache line so that they are aligned to one. */
struct header {
    size_t mapped; /* bytes of the mapping; 0: on the heap */
    char pad[64 - sizeof(size_t)];
};

static struct header *header_of(uint64_t *items)
{
    return (struct header *)(void *)items - 1;
}

static uint64_t *items_of(struct header *header)
{
    return (uint64_t *)(void *)(header + 1);
}

#ifdef __linux__

#include <sys/mman.h>

enum { MAPPED_FROM = 1 << 19 }; /* bytes: less is not worth a huge page */

/* A mapping of `size` bytes with the content of `old`, or NULL. */
static struct header *remap(struct header *old, size_t used, size_t size)
{
    bool moved = old != NULL && old->mapped != 0;
    void *made = moved ? mremap(old, old->mapped, size, MREMAP_MAYMOVE)
                       : mmap(NULL, size, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (made == MAP_FAILED) {
        return NULL;
    }
    madvise(made, size, MADV_HUGEPAGE);
    if (old != NULL && !moved) {
        memcpy(made, old, used);
        free(old);
    }
    struct header *header = made;
    header->mapped = size;
    return header;
}

static void unmap(struct header *header)
{
    munmap(header, header->mapped);
}

#else

enum { MAPPED_FROM = 0 }; /* never: the heap serves all */

static struct header *remap(struct header *old, size_t used, size_t size)
{
    (void)old;
    (void)used;
    (void)size;
    return NULL;
}

static void unmap(struct header *header)
{
    (void)header;
}

#endif

/* Gives the rows room for `capacity` items, at least those in use. */
static bool resize(struct iova_rows *rows, size_t capacity)
{
    struct header *old = rows->items == NULL ? NULL : header_of(rows->items);
    struct header *made;

    if (capacity > (SIZE_MAX - sizeof(struct header)) / sizeof(uint64_t)) {
        return false;
    }
    size_t size = sizeof(*made) + capacity * sizeof(uint64_t);
    bool mapped = old != NULL && old->mapped != 0;
    if (mapped || (MAPPED_FROM != 0 && size >= MAPPED_FROM)) {
        made = remap(old, sizeof(*made) + rows->count * sizeof(uint64_t), size);
    } else if ((made = realloc(old, size)) != NULL) {
        made->mapped = 0;
    }
    if (made == NULL) {
        return false;
    }
    rows->items = items_of(made);
    rows->capacity = capacity;
    return true;
}

bool iova_rows_reserve(struct iova_rows *rows, size_t more)
{
    if (rows->capacity - rows->count >= more) {
        return true;
    }
    if (rows->fixed || more > SIZE_MAX / 16 - rows->count) {
        return false;
    }
    size_t capacity = rows->count + rows->count / 2 + more;
    if (capacity * sizeof(uint64_t) >= MAPPED_FROM && MAPPED_FROM != 0 && rows->most > capacity &&
        rows->most <= SIZE_MAX / 16 && resize(rows, (size_t)rows->most)) {
        return true;
    }
    return resize(rows, capacity);
}

void iova_rows_trim(struct iova_rows *rows)
{
    if (!rows->fixed && rows->items != NULL && rows->count < rows->capacity) {
        resize(rows, rows->count);
    }
}

void iova_rows_free(uint64_t *items)
{
    if (items != NULL) {
        struct header *header = header_of(items);
        if (header->mapped != 0) {
            unmap(header);
        } else {
            free(header);
        }
    }
}
