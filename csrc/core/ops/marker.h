/*
 * marker.h - marking rows in a bitmap through one window of its own, as they come.
 */
#ifndef IOVA_MERGE_H
#define IOVA_MERGE_H

#include "core/bitmap/window.h"

struct iova_marker {
    struct iova_bitmap *bitmap;
    struct iova_cursor cursor;
    struct iova_bitmap_report report; /* pages marked for the first time; what was not, on error */
};

void iova_marker_open(struct iova_marker *marker, struct iova_bitmap *bitmap);
void iova_marker_close(struct iova_marker *marker);

/* Marks rows (iova, length). 0, the backend's errno, or -ERANGE for a row that is not inside. */
int iova_marker_mark(struct iova_marker *marker, const uint64_t *items, size_t count);

#endif
