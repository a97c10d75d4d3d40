/*
 * for_each.c - calling a function for the whole range, or for each window of an ascending walk.
 */
#include "core/bitmap/window.h"

int iova_bitmap_for_each(struct iova_bitmap *bitmap, void *opaque, iova_bitmap_fn_t fn)
{
    return fn(bitmap, bitmap->geometry.iova, bitmap->geometry.length, opaque);
}

int iova_bitmap_for_each_window(struct iova_bitmap *bitmap, void *opaque, iova_bitmap_fn_t fn,
                                struct iova_bitmap_report *failed)
{
    const struct iova_bitmap_geometry *geometry = &bitmap->geometry;
    struct iova_bitmap_report unread;
    uint64_t byte = 0;

    if (failed == NULL) {
        failed = &unread;
    }
    *failed = (struct iova_bitmap_report){0};
    while (byte < geometry->nbytes) {
        int rc = iova_window_take(bitmap, &bitmap->present, byte, geometry->nbytes - byte,
                                  bitmap->window_pages, IOVA_BITMAP_WRITE);
        if (rc < 0) {
            failed->iova = iova_geometry_address(geometry, byte << 3);
            failed->length = geometry->last - failed->iova + 1;
            return rc;
        }
        byte += bitmap->present.nbytes; /* before fn, which may move the present window */
        rc = fn(bitmap, bitmap->present.view.iova, bitmap->present.view.length, opaque);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}
