/*
 * poll.h - asking, during a long operation, whether to go on: how a signal is honoured at once.
 *
 * Work is counted in bytes of bitmap, and what is not measured in bytes in what it costs about as
 * much. Between two questions lies so much of it that asking costs nothing, and so little that it
 * takes a few milliseconds at most; an operation with less work is never asked about.
 */
#ifndef IOVA_POLL_H
#define IOVA_POLL_H

#include "core/bitmap/bitmap.h"

enum {
    IOVA_POLL_BYTES = 1 << 20, /* of work between two questions */
    IOVA_POLL_CHUNK = 1 << 12, /* what it costs to come to a piece of bitmap, however short */
    IOVA_POLL_ITEM = 1 << 4,   /* ... to a row of a list */
};

struct iova_poll {
    int (*ask)(void *context); /* or NULL */
    void *context;
    uint64_t work; /* since the last question */
};

static inline struct iova_poll iova_poll_of(const struct iova_bitmap *bitmap)
{
    return (struct iova_poll){bitmap->poll, bitmap->poll_context, 0};
}

/* Counts what is about to be done, and asks where enough was: 0, or -EINTR. */
static inline int iova_poll_before(struct iova_poll *poll, uint64_t work)
{
    if (poll->work >= IOVA_POLL_BYTES) {
        poll->work = 0;
        if (poll->ask != NULL && poll->ask(poll->context) != 0) {
            return -EINTR;
        }
    }
    poll->work += work;
    return 0;
}

#endif
