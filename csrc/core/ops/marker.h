/*
 * marker.h - marking rows in a bitmap through one walk, as they come.
 */
#ifndef IOVA_MARKER_H
#define IOVA_MARKER_H

#include "core/bitmap/walk.h"

/* Marks rows (iova, length), `count` items, in a bitmap that a walk of kind IOVA_WALK_ROWS has been
 * begun on, and counts pages marked for the first time in its report. 0, the backend's errno, or
 * -ERANGE for a row that is not inside: then report->iova is the first address of all the rows that
 * is not marked. */
int iova_mark_rows(struct iova_walk *walk, const uint64_t *items, size_t count);

#endif
