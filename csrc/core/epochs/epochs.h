/*
 * epochs.h - passes over the dirty rows of many epochs, in which each row depends on those before
 * it. They touch nothing but the arrays that they are given.
 */
#ifndef IOVA_EPOCHS_H
#define IOVA_EPOCHS_H

#include <stdint.h>

/* ---- is this what a log can hold (check.c) ---- */

/* Columns of a log, `count` entries each. A clean epoch is one row of length 0 at the base. */
struct iova_epoch_columns {
    const int64_t *epoch;
    const int64_t *t_start_ns;
    const int64_t *t_end_ns;
    const uint64_t *iova;
    const uint64_t *length;
    uint64_t count;
};

/*
 * The first row that is outside of the addresses, does not follow the one before it (epochs ascend
 * by 0 or 1, rows of an epoch ascend and do not overlap), or has other times than its epoch; or
 * `count` if there is none.
 */
uint64_t iova_epochs_check(const struct iova_epoch_columns *rows, uint64_t base, uint64_t length);

/* ---- when was each piece of memory dirty before (history.c) ---- */

/*
 * What is known of each of `npieces` pieces, and what was counted. Counts are pages.
 *
 * A gap of a piece is the row of epochs between two in which it was dirty, or before the first; its
 * length is 0 if those are neighbours. bin_of[length] < nbins sorts gaps by their length.
 */
struct iova_history {
    int32_t *last;          /* of each piece: the epoch in which it was dirty last, or -1 */
    const uint64_t *weight; /* of each piece: its pages; NULL: one each */
    uint64_t npieces;
    const int32_t *bin_of; /* of each length from 0 to nepochs - 1 */
    uint64_t nepochs;
    uint64_t nbins;
    uint64_t *newly; /* by epoch: dirty for the first time */
    uint64_t *after; /* by epoch and bin: of the gaps that end before that epoch */
    uint64_t *from;  /* by epoch and bin: of the gaps that begin with that epoch */
};

/*
 * Adds rows (epoch, first piece, pieces), which ascend by epoch; the rows of one epoch do not
 * overlap. Returns how many rows were added: fewer than `count` if the next one is outside of the
 * pieces or epochs, or comes twice. Of that row the pieces before the bad one were counted.
 */
uint64_t iova_history_add(const struct iova_history *history, const int64_t *epoch,
                          const uint64_t *first, const uint64_t *pieces, uint64_t count);

/*
 * Adds 1 to hits[n] for each piece n of rows (first piece, pieces). Returns how many rows were
 * added: fewer than `count` if the next one is outside.
 */
uint64_t iova_history_hits(int32_t *hits, uint64_t npieces, const uint64_t *first,
                           const uint64_t *pieces, uint64_t count);

/* ---- how much was dirty when and where (map.c) ---- */

struct iova_epoch_map {
    uint64_t base;         /* from which pages of 1 << shift bytes are counted */
    uint64_t shift;        /* at most 63 */
    const uint64_t *first; /* address of each part of the addresses, ascending */
    uint64_t nparts;
    const int32_t *column_of; /* of each epoch */
    uint64_t nepochs;
    uint64_t ncolumns;
    uint64_t *counts; /* by epoch: dirty pages */
    double *cover;    /* by column and part: dirty bytes */
};

/*
 * Adds rows (epoch, iova, length), ascending in each epoch. Returns how many rows were added: fewer
 * than `count` if the next one is empty, outside of the epochs, or before the first part.
 */
uint64_t iova_map_add(const struct iova_epoch_map *map, const int64_t *epoch, const uint64_t *iova,
                      const uint64_t *length, uint64_t count);

#endif
