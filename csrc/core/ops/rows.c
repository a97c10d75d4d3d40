/*
 * rows.c - memory that grows without being copied: on the heap where it is small, else a mapping of
 * its own (Linux), of the largest size that may be needed. Only what is written takes memory.
 *
 * New memory costs as much as decoding rows into it: each page is a fault and is zeroed first. So
 * the mapping that was freed last is kept for the next answer, up to a size (SPARE_MOST), as the C
 * library's heap does.
 */
#include "core/ops/rows.h"

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

#include <stdint.h>
#include <sys/mman.h>

enum {
    MAPPED_FROM = 1 << 19, /* bytes: less is not worth a huge page */
    HUGE_PAGE = 1 << 21,
    SPARE_MOST = 1 << 25,
};

static struct header *spare; /* of the whole process; taken and given by an atomic exchange */

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

/* The spare mapping, of `size` bytes where it can grow to that, of `least` bytes at least, with the
 * content of `old`, which lies on the heap; or NULL. */
static struct header *take_spare(struct header *old, size_t used, size_t least, size_t size)
{
    struct header *taken = __atomic_exchange_n(&spare, NULL, __ATOMIC_ACQUIRE);

    if (taken == NULL) {
        return NULL;
    }
    size_t mapped = taken->mapped;
    if (mapped < size && mremap(taken, mapped, size, 0) != MAP_FAILED) {
        mapped = size;
    }
    if (mapped < least) {
        munmap(taken, mapped);
        return NULL;
    }
    if (old != NULL) {
        memcpy(taken, old, used);
        free(old);
    }
    taken->mapped = mapped;
    return taken;
}

/* Gives back what lies behind the first `size` bytes, but for the rest of a huge page. */
static void shrink(struct header *header, size_t size)
{
    uintptr_t end = (uintptr_t)header + size;
    size_t kept = (size_t)((end + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE - (uintptr_t)header);

    if (kept < header->mapped && mremap(header, header->mapped, kept, 0) != MAP_FAILED) {
        header->mapped = kept;
    }
}

/* Keeps a mapping, or NULL, and gives back the one kept before. */
static void keep(struct header *header)
{
    header = __atomic_exchange_n(&spare, header, __ATOMIC_ACQ_REL);
    if (header != NULL) {
        munmap(header, header->mapped);
    }
}

static void unmap(struct header *header)
{
    if (header->mapped <= SPARE_MOST) {
        keep(header);
    } else {
        munmap(header, header->mapped);
    }
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

static struct header *take_spare(struct header *old, size_t used, size_t least, size_t size)
{
    (void)least;
    return remap(old, used, size);
}

static void shrink(struct header *header, size_t size)
{
    (void)header;
    (void)size;
}

static void keep(struct header *header)
{
    (void)header;
}

static void unmap(struct header *header)
{
    (void)header;
}

#endif

/* Gives the rows room for `least` items, at least those in use, and for `most` where that costs no
 * more. */
static bool resize(struct iova_rows *rows, size_t least, size_t most)
{
    struct header *old = rows->items == NULL ? NULL : header_of(rows->items);
    struct header *made;
    bool mapped = old != NULL && old->mapped != 0;

    if (most > (SIZE_MAX - sizeof(*made)) / sizeof(uint64_t)) {
        return false;
    }
    size_t used = sizeof(*made) + rows->count * sizeof(uint64_t);
    size_t size = sizeof(*made) + most * sizeof(uint64_t);
    least = sizeof(*made) + least * sizeof(uint64_t);
    if (!mapped && (MAPPED_FROM == 0 || least < MAPPED_FROM)) {
        if ((made = realloc(old, least)) == NULL) {
            return false;
        }
        made->mapped = 0;
        size = least;
    } else {
        if ((mapped || (made = take_spare(old, used, least, size)) == NULL) &&
            (made = remap(old, used, size)) == NULL && (made = remap(old, used, least)) == NULL) {
            return false;
        }
        size = made->mapped;
    }
    rows->items = items_of(made);
    rows->capacity = (size - sizeof(*made)) / sizeof(uint64_t);
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
    size_t least = rows->count + rows->count / 2 + more;
    size_t most = rows->most > least && rows->most <= SIZE_MAX / 16 ? (size_t)rows->most : least;
    return resize(rows, least, most);
}

void iova_rows_trim(struct iova_rows *rows)
{
    if (rows->fixed || rows->items == NULL || rows->count >= rows->capacity) {
        return;
    }
    struct header *header = header_of(rows->items);
    if (header->mapped != 0) {
        shrink(header, sizeof(*header) + rows->count * sizeof(uint64_t));
        rows->capacity = rows->count;
    } else {
        resize(rows, rows->count, rows->count);
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

void iova_rows_drop_spare(void)
{
    keep(NULL);
}

struct iova_rows iova_rows_of(const struct iova_bitmap_ranges *ranges)
{
    const bool given = ranges->rows != NULL;

    return (struct iova_rows){.items = (uint64_t *)(void *)ranges->rows,
                              .capacity = given ? (size_t)ranges->capacity * 2 : 0,
                              .fixed = given};
}

int iova_rows_give(struct iova_rows *rows, int rc, struct iova_bitmap_ranges *ranges)
{
    if (rows->fixed) {
        return rc;
    }
    if (rc < 0) {
        iova_rows_free(rows->items);
        rows->items = NULL;
        ranges->count = 0;
    } else {
        iova_rows_trim(rows);
    }
    ranges->rows = (struct iova_bitmap_range *)(void *)rows->items;
    ranges->capacity = ranges->count;
    return rc;
}
