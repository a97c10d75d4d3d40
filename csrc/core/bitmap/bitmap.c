/*
 * bitmap.c - the life of a bitmap, and what can be asked of it without reading its memory.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/bitmap/window.h"
#include "core/bits/atomic.h"
#include "core/pin/pin.h"

int iova_bitmap_alloc(uint64_t iova, uint64_t length, uint64_t page_size, void *data, uint64_t size,
                      const struct iova_bitmap_options *options, struct iova_bitmap **bitmap)
{
    static const struct iova_bitmap_options defaults = {0};
    struct iova_bitmap_geometry geometry;
    int rc = iova_bitmap_geometry_init(&geometry, iova, length, page_size);

    if (rc < 0) {
        return rc;
    }
    if (data == NULL) {
        return -EFAULT;
    }
    if (size < geometry.nbytes) {
        return -ENOSPC;
    }
    if (size > UINTPTR_MAX - (uintptr_t)data) {
        return -EINVAL;
    }
    struct iova_bitmap *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return -ENOMEM;
    }
    if (options == NULL) {
        options = &defaults;
    }
    made->geometry = geometry;
    made->data = data;
    made->size = size;
    made->host_page_size = iova_bitmap_host_page_size();
    made->window_pages =
        options->window_pages ? options->window_pages : made->host_page_size / sizeof(void *);
    made->pin = options->pin ? options->pin : &iova_pin_none;
    made->pin_context = options->pin_context;
    made->poll = options->poll;
    made->poll_context = options->poll_context;
    *bitmap = made;
    return 0;
}

void iova_bitmap_release(struct iova_bitmap *bitmap)
{
    iova_window_release(bitmap, &bitmap->present);
}

void iova_bitmap_free(struct iova_bitmap *bitmap)
{
    if (bitmap != NULL) {
        iova_bitmap_release(bitmap);
        free(bitmap);
    }
}

const struct iova_bitmap_geometry *iova_bitmap_geometry(const struct iova_bitmap *bitmap)
{
    return &bitmap->geometry;
}

const struct iova_bitmap_window *iova_bitmap_present_window(const struct iova_bitmap *bitmap)
{
    return &bitmap->present.view;
}

const struct iova_bitmap_stats *iova_bitmap_stats(const struct iova_bitmap *bitmap)
{
    return &bitmap->stats;
}

static uint64_t now(const uint64_t *counter)
{
    return iova_atomic_load64((const iova_word *)(const void *)counter);
}

struct iova_bitmap_stats iova_bitmap_stats_now(const struct iova_bitmap *bitmap)
{
    const struct iova_bitmap_stats *stats = &bitmap->stats;

    return (struct iova_bitmap_stats){.pins = now(&stats->pins),
                                      .unpins = now(&stats->unpins),
                                      .pinned_pages = now(&stats->pinned_pages),
                                      .peak_pinned_pages = now(&stats->peak_pinned_pages),
                                      .moves = now(&stats->moves)};
}

uint64_t iova_bitmap_window_pages(const struct iova_bitmap *bitmap)
{
    return bitmap->window_pages;
}

int iova_bitmap_check_range(const struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                            unsigned flags)
{
    struct iova_span span;

    if ((flags & ~(unsigned)IOVA_BITMAP_CLIP) != 0) {
        return -EINVAL;
    }
    return iova_geometry_resolve(&bitmap->geometry, iova, length, flags, &span);
}
