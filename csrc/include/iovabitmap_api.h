/*
 * iovabitmap_api.h - for C code beside Python: marks a bitmap that Python owns without calling
 * Python. It needs no Python.h, so a device model that ctypes loads can use it too.
 *
 * The table is in the capsule IOVABITMAP_API_CAPSULE: PyCapsule_Import(IOVABITMAP_API_CAPSULE, 0)
 * gives a `const struct iovabitmap_api *`. Check it with iovabitmap_api_fits() before any other
 * use.
 *
 * acquire() makes an engine's bitmap of its own over the memory of an IOVABitmap: same geometry,
 * same marks, but a present window and statistics of its own. It keeps the memory, as an array of
 * view() does: when Python frees its bitmap meanwhile, new operations there fail, and the memory
 * stays until release().
 *
 * Threads. acquire() and release() need the interpreter (the GIL, or an attached thread) and the
 * interpreter that made the object. All else needs none, and should run without it. One held bitmap
 * serves one thread at a time: each thread acquires its own, of the same object if it likes; no
 * mark is lost, whoever else marks. The rules of what is counted, and of clearing meanwhile, are
 * those of iova_bitmap.h.
 *
 * Errors are the engine's negative errno values, except those of acquire().
 */
#ifndef IOVABITMAP_API_H
#define IOVABITMAP_API_H

#include "iova_bitmap.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IOVABITMAP_API_CAPSULE "iovabitmap._core._C_API"
#define IOVABITMAP_API_VERSION 1

struct iovabitmap_held {
    struct iova_bitmap *bitmap; /* NULL where nothing is held */
    void *memory;               /* the library's */
};

/* Later versions with the same number only add members at the end: `size` tells. */
struct iovabitmap_api {
    uint32_t version; /* IOVABITMAP_API_VERSION of the library */
    uint32_t size;    /* bytes of the library's table */

    /* `object` is a PyObject *. 0, or -1 and a Python exception: TypeError where it is no
     * IOVABitmap, ValueError where it is freed or pinned by a Python object, MemoryError. */
    int (*acquire)(void *object, struct iovabitmap_held *held);
    /* Gives back its window and the memory. What holds nothing may be released. */
    void (*release)(struct iovabitmap_held *held);

    /* As iova_bitmap_set() and so on in iova_bitmap.h, on held.bitmap. To test and set, set with
     * IOVA_BITMAP_COUNT: report->pages is how many pages were clean. */
    int (*set)(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
               struct iova_bitmap_report *report);
    int (*clear)(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                 struct iova_bitmap_report *report);
    int (*test)(struct iova_bitmap *bitmap, uint64_t iova);
    int (*count)(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                 struct iova_bitmap_report *report);
    const struct iova_bitmap_geometry *(*geometry)(const struct iova_bitmap *bitmap);

    /* Since 0.10. Rows that read_and_clear() allocated are given back with this rows_free(). */
    int (*set_ranges)(struct iova_bitmap *bitmap, const struct iova_bitmap_range *ranges,
                      uint64_t count, unsigned flags, uint64_t *bad_row,
                      struct iova_bitmap_report *report);
    int (*read_and_clear)(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                          unsigned flags, struct iova_bitmap_ranges *ranges,
                          struct iova_bitmap_report *report);
    void (*rows_free)(void *rows);
};

/* Whether a library's table has all that this header names. */
static inline bool iovabitmap_api_fits(const struct iovabitmap_api *api)
{
    return api != NULL && api->version == IOVABITMAP_API_VERSION &&
           api->size >= sizeof(struct iovabitmap_api);
}

#ifdef __cplusplus
}
#endif

#endif
