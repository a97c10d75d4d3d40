/*
 * tracked.h - memory with a write tracker, and bitmaps to collect into.
 */
#ifndef TRACKED_H
#define TRACKED_H

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "check.h"
#include "core/sources/write_tracker.h"

static uint64_t page;

static inline uint8_t *map(uint64_t npages)
{
    uint8_t *memory =
        mmap(NULL, npages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        check_skip("no memory");
    }
    return memory;
}

static inline struct iova_write_tracker *started(uint8_t *address, uint64_t size, uint64_t iova)
{
    struct iova_write_tracker *tracker = NULL;

    CHECK_EQ(iova_write_tracker_new(address, size, iova, page, &tracker), 0);
    CHECK(!iova_write_tracker_started(tracker), "before start");
    CHECK_EQ(iova_write_tracker_start(tracker), 0);
    CHECK(iova_write_tracker_started(tracker), "after start");
    return tracker;
}

/* A bitmap of zeroed bits; both are freed by drop(). */
static inline struct iova_bitmap *bitmap(uint64_t iova, uint64_t length, uint64_t page_size,
                                         const struct iova_bitmap_options *options, uint8_t **bits)
{
    struct iova_bitmap *made = NULL;
    uint64_t nbytes = iova_bitmap_nbytes(length, page_size);

    *bits = calloc(1, nbytes);
    CHECK_EQ(iova_bitmap_alloc(iova, length, page_size, *bits, nbytes, options, &made), 0);
    return made;
}

static inline void drop(struct iova_bitmap *made, uint8_t *bits)
{
    iova_bitmap_free(made);
    free(bits);
}

/* Collects, and returns the pages newly marked. */
static inline uint64_t collect(struct iova_write_tracker *tracker, struct iova_bitmap *into)
{
    struct iova_bitmap_report report = {0};

    CHECK_EQ(iova_write_tracker_collect(tracker, into, NULL, &report), 0);
    CHECK_EQ(report.length, 0);
    return report.pages;
}

/* Each page is dirty just where the model says so; then both are cleared. */
static inline void check_bits(uint8_t *bits, uint8_t *model, uint64_t npages, const char *what)
{
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < npages; i++) {
        wrong += ((bits[i / 8] >> i % 8) & 1) != model[i];
    }
    CHECK(wrong == 0, "%s: %" PRIu64 " pages differ", what, wrong);
    memset(bits, 0, (npages + 7) / 8);
    memset(model, 0, npages);
}

static inline void skip_where_impossible(void)
{
    struct iova_write_tracker *tracker = NULL;
    uint8_t *memory = map(1);

    CHECK_EQ(iova_write_tracker_new(memory, page, 0, page, &tracker), 0);
    int rc = iova_write_tracker_start(tracker);
    if (rc < 0) {
        printf("start: %s (step %d)\n", strerror(-rc), (int)iova_write_tracker_step(tracker));
        check_skip("this kernel has no userfaultfd with WP_ASYNC (Linux 6.7), or forbids it");
    }
    iova_write_tracker_free(tracker);
    munmap(memory, page);
}

#endif
