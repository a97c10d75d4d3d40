/*
 * test_epochs.c - passes over rows of epochs: gaps and hits page by page, the map byte by byte, and
 * what they refuse.
 */
#include <stdbool.h>
#include <string.h>

#include "check.h"
#include "core/epochs/epochs.h"

enum { EPOCHS = 12, PIECES = 40, BINS = 3, PARTS = 4, COLUMNS = 3, MOST = EPOCHS * PIECES };

/* Rows of all epochs, in which each piece is dirty if `dirty` says so. */
struct rows {
    int64_t epoch[MOST];
    uint64_t first[MOST], pieces[MOST];
    uint64_t count;
    bool dirty[EPOCHS][PIECES];
};

static void fill(struct rows *rows, uint64_t seed)
{
    rows->count = 0;
    for (int64_t epoch = 0; epoch < EPOCHS; epoch++) {
        for (uint64_t n = 0; n < PIECES; n++) {
            bool before = n > 0 && rows->dirty[epoch][n - 1];
            rows->dirty[epoch][n] = check_random(&seed) % 3 == 0;
            if (rows->dirty[epoch][n] && before) {
                rows->pieces[rows->count - 1]++;
            } else if (rows->dirty[epoch][n]) {
                rows->epoch[rows->count] = epoch;
                rows->first[rows->count] = n;
                rows->pieces[rows->count++] = 1;
            }
        }
    }
}

static void test_history(const struct rows *rows, const uint64_t *weight)
{
    int32_t last[PIECES], bin_of[EPOCHS];
    uint64_t newly[EPOCHS] = {0}, after[EPOCHS * BINS] = {0}, from[EPOCHS * BINS] = {0};
    uint64_t want_newly[EPOCHS] = {0}, want_after[EPOCHS * BINS] = {0};
    uint64_t want_from[EPOCHS * BINS] = {0};
    const struct iova_history history = {.last = last,
                                         .weight = weight,
                                         .npieces = PIECES,
                                         .bin_of = bin_of,
                                         .nepochs = EPOCHS,
                                         .nbins = BINS,
                                         .newly = newly,
                                         .after = after,
                                         .from = from};

    memset(last, -1, sizeof(last));
    for (int i = 0; i < EPOCHS; i++) {
        bin_of[i] = i < BINS ? i : BINS - 1;
    }
    for (int n = 0; n < PIECES; n++) {
        int before = -1;
        for (int epoch = 0; epoch < EPOCHS; epoch++) {
            if (rows->dirty[epoch][n]) {
                uint64_t pages = weight == NULL ? 1 : weight[n];
                want_newly[epoch] += before < 0 ? pages : 0;
                want_after[epoch * BINS + bin_of[epoch - 1 - before]] += pages;
                want_from[(before + 1) * BINS + bin_of[epoch - 1 - before]] += pages;
                before = epoch;
            }
        }
    }
    CHECK_EQ(iova_history_add(&history, rows->epoch, rows->first, rows->pieces, rows->count),
             rows->count);
    CHECK(memcmp(newly, want_newly, sizeof(newly)) == 0, "newly");
    CHECK(memcmp(after, want_after, sizeof(after)) == 0, "after");
    CHECK(memcmp(from, want_from, sizeof(from)) == 0, "from");

    /* The same again comes twice; beyond the pieces or the epochs there is nothing. */
    CHECK_EQ(iova_history_add(&history, rows->epoch, rows->first, rows->pieces, 1), 0);
    const int64_t epochs[] = {EPOCHS, -1, EPOCHS - 1, EPOCHS - 1};
    const uint64_t first[] = {0, 0, PIECES, UINT64_MAX}, pieces[] = {1, 1, 1, 2};
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(iova_history_add(&history, epochs + i, first + i, pieces + i, 1), 0);
    }
}

static void test_hits(const struct rows *rows)
{
    int32_t hits[PIECES + 1] = {0};
    const uint64_t beyond = PIECES - 1, two = 2;

    CHECK_EQ(iova_history_hits(hits, PIECES, rows->first, rows->pieces, rows->count), rows->count);
    for (int n = 0; n < PIECES; n++) {
        int32_t want = 0;
        for (int epoch = 0; epoch < EPOCHS; epoch++) {
            want += rows->dirty[epoch][n];
        }
        CHECK_EQ(hits[n], want);
    }
    CHECK_EQ(iova_history_hits(hits, PIECES, &beyond, &two, 1), 0);
    CHECK_EQ(hits[PIECES], 0);
}

/* A piece is a page of 16 bytes. */
static void test_map(const struct rows *rows, uint64_t base)
{
    uint64_t iova[MOST], length[MOST], counts[EPOCHS] = {0};
    const uint64_t first[PARTS] = {base, base + 3, base + 160, base + 630};
    double cover[COLUMNS * PARTS] = {0}, want[COLUMNS * PARTS] = {0};
    int32_t column_of[EPOCHS];
    const struct iova_epoch_map map = {base,   4,       first,  PARTS, column_of,
                                       EPOCHS, COLUMNS, counts, cover};

    for (uint64_t i = 0; i < rows->count; i++) {
        iova[i] = base + 16 * rows->first[i];
        length[i] = 16 * rows->pieces[i];
    }
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        column_of[epoch] = epoch / (EPOCHS / COLUMNS);
        for (uint64_t byte = 0; byte < 16 * PIECES; byte++) {
            int part = byte < 3 ? 0 : byte < 160 ? 1 : byte < 630 ? 2 : 3;
            want[column_of[epoch] * PARTS + part] += rows->dirty[epoch][byte / 16];
        }
    }
    CHECK_EQ(iova_map_add(&map, rows->epoch, iova, length, rows->count), rows->count);
    CHECK(memcmp(cover, want, sizeof(cover)) == 0, "cover");
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        uint64_t pages = 0;
        for (int n = 0; n < PIECES; n++) {
            pages += rows->dirty[epoch][n];
        }
        CHECK_EQ(counts[epoch], pages);
    }
    const int64_t epochs[] = {EPOCHS, -1, 0, 0, 0};
    const uint64_t at[] = {base, base, base, base - 1, base + 8};
    const uint64_t bytes[] = {1, 1, 0, 1, UINT64_MAX - base};
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(iova_map_add(&map, epochs + i, at + i, bytes + i, 1), 0);
    }
}

static void test_check(void)
{
    const int64_t epoch[] = {0, 0, 1, 2}, t0[] = {5, 5, 6, 6}, t1[] = {6, 6, 6, 9};
    const uint64_t iova[] = {100, 110, 100, 190}, length[] = {10, 5, 0, 10};
    struct iova_epoch_columns rows = {epoch, t0, t1, iova, length, 4};
    const int64_t epoch_2[] = {0, 0, 2, 3}, t0_1[] = {5, 4, 6, 6}, t1_2[] = {6, 6, 5, 9};
    const uint64_t iova_1[] = {100, 109, 100, 190}, length_3[] = {10, 5, 0, 11};

    CHECK_EQ(iova_epochs_check(&rows, 100, 100), 4);
    CHECK_EQ(iova_epochs_check(&rows, 100, 99), 3);
    CHECK_EQ(iova_epochs_check(&rows, 101, 99), 0);
    rows.epoch = epoch_2;
    CHECK_EQ(iova_epochs_check(&rows, 100, 100), 2);
    rows.epoch = epoch, rows.t_start_ns = t0_1;
    CHECK_EQ(iova_epochs_check(&rows, 100, 100), 1);
    rows.t_start_ns = t0, rows.t_end_ns = t1_2;
    CHECK_EQ(iova_epochs_check(&rows, 100, 100), 2);
    rows.t_end_ns = t1, rows.iova = iova_1;
    CHECK_EQ(iova_epochs_check(&rows, 100, 100), 1);
    rows.iova = iova, rows.length = length_3;
    CHECK_EQ(iova_epochs_check(&rows, 100, 100), 3);
}

int main(void)
{
    static struct rows rows;
    uint64_t weight[PIECES];

    for (uint64_t n = 0; n < PIECES; n++) {
        weight[n] = n * n + 1;
    }
    for (uint64_t seed = 1; seed < 50; seed++) {
        fill(&rows, seed);
        test_history(&rows, seed % 2 ? NULL : weight);
        test_hits(&rows);
        test_map(&rows, seed % 2 ? 0x1000 : UINT64_MAX - 16 * PIECES + 1);
    }
    test_check();
    return check_result();
}
