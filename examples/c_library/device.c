/*
 * device.c - an example: a device model in C that marks what it writes in a bitmap of Python's, and
 * hands over what is dirty. It knows nothing of Python: ctypes loads it and hands it the table of
 * functions (device.py).
 *
 * cc -shared -fPIC -I$(python -c 'import iovabitmap; print(iovabitmap.get_include())') device.c
 */
#include "iovabitmap_api.h"

#include <errno.h>

/* Writes `count` packets of `length` bytes to a ring of `slots` slots of `stride` bytes at `ring`,
 * and marks each. Returns 0, or the negative errno of the first mark that failed. */
int device_receive(const struct iovabitmap_api *api, struct iova_bitmap *bitmap, uint64_t ring,
                   uint64_t slots, uint64_t stride, uint64_t length, uint64_t count)
{
    if (!iovabitmap_api_fits(api)) {
        return -ENOSYS;
    }
    for (uint64_t i = 0; i < count; i++) {
        int rc = api->set(bitmap, ring + i % slots * stride, length, 0, NULL);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

/* Takes what is dirty, a few ranges at a time and without allocating: each would be sent to another
 * host here. Adds up their bytes. Returns 0, or a negative errno: what was not taken is still
 * marked. */
int device_send_dirty(const struct iovabitmap_api *api, struct iova_bitmap *bitmap, uint64_t *bytes)
{
    if (!iovabitmap_api_fits(api)) {
        return -ENOSYS;
    }
    const struct iova_bitmap_geometry *geometry = api->geometry(bitmap);
    struct iova_bitmap_range rows[2];
    struct iova_bitmap_ranges dirty = {.rows = rows, .capacity = 2};
    struct iova_bitmap_report rest = {.iova = geometry->iova, .length = geometry->length};
    int rc;

    *bytes = 0;
    do {
        rc = api->read_and_clear(bitmap, rest.iova, rest.length, 0, &dirty, &rest);
        for (uint64_t i = 0; i < dirty.count; i++) {
            *bytes += rows[i].length;
        }
    } while (rc == -ENOSPC); /* there are more: go on where the report says */
    return rc;
}
