/*
 * sort.c - a sort that can be interrupted, as qsort cannot: of many rows it takes long. Digit
 * by digit, the least significant first, so that it looks at each row once for each digit.
 */
#include "core/ops/sort.h"

#include <stdlib.h>
#include <string.h>

enum { DIGIT = 11, NDIGITS = 1 << DIGIT };

static unsigned digit_of(const struct iova_bits *row, unsigned shift)
{
    return (unsigned)(row->first >> shift) & (NDIGITS - 1);
}

/* Sorts `from` into `to` by one digit; rows of the same digit keep their order. 0 or -EINTR. */
static int sort_by_digit(struct iova_poll *poll, const struct iova_bits *from, struct iova_bits *to,
                         size_t count, unsigned shift)
{
    size_t next[NDIGITS];
    size_t sum = 0;
    int rc = 0;

    memset(next, 0, sizeof(next));
    for (size_t i = 0; i < count; i++) {
        next[digit_of(&from[i], shift)]++;
    }
    for (unsigned digit = 0; digit < NDIGITS; digit++) {
        size_t n = next[digit];
        next[digit] = sum;
        sum += n;
    }
    for (size_t i = 0; rc == 0 && i < count; i++) {
        to[next[digit_of(&from[i], shift)]++] = from[i];
        rc = iova_poll_before(poll, IOVA_POLL_ITEM);
    }
    return rc;
}

int iova_bits_sort(struct iova_poll *poll, struct iova_bits **rows, size_t count, uint64_t most)
{
    struct iova_bits *other = malloc(count * sizeof(*other));
    int rc = 0;

    if (other == NULL) {
        return -ENOMEM;
    }
    for (unsigned shift = 0; rc == 0 && shift < 64 && most >> shift != 0; shift += DIGIT) {
        rc = sort_by_digit(poll, *rows, other, count, shift);
        struct iova_bits *sorted = other;
        other = *rows;
        *rows = sorted;
    }
    free(other);
    return rc;
}
