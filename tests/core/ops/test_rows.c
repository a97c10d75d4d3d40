/*
 * test_rows.c - memory for the rows of an answer: what is in it stays while it grows, from the heap
 * to a mapping, and in the mapping that an earlier answer left.
 */
#include <stdbool.h>

#include "check.h"
#include "core/ops/rows.h"

enum {
    FEW = 100,
    MANY = 1 << 17
}; /* items: on the heap, and 1 MiB, in a mapping where there are */

static void fill(struct iova_rows *rows, size_t count, uint64_t seed)
{
    for (; rows->count < count; rows->count++) {
        rows->items[rows->count] = seed + rows->count;
    }
}

static void check_items(const struct iova_rows *rows, uint64_t seed)
{
    for (size_t i = 0; i < rows->count; i++) {
        if (rows->items[i] != seed + i) {
            CHECK_EQ(rows->items[i], seed + i);
            return;
        }
    }
}

/* Grows from nothing, in one step or in two, with or without a mapping that is left. */
static void test_growth(bool in_two, bool left, uint64_t seed)
{
    struct iova_rows rows = {0};

    if (left) {
        struct iova_rows earlier = {0};
        CHECK(iova_rows_reserve(&earlier, MANY), "earlier");
        fill(&earlier, MANY, 7);
        iova_rows_free(earlier.items);
    } else {
        iova_rows_drop_spare();
    }
    if (in_two) {
        CHECK(iova_rows_reserve(&rows, FEW), "few");
        CHECK(rows.capacity >= FEW && rows.capacity < MANY, "capacity %zu", rows.capacity);
        fill(&rows, FEW, seed);
    }
    CHECK(iova_rows_reserve(&rows, MANY), "many");
    CHECK(rows.capacity - rows.count >= MANY, "capacity %zu", rows.capacity);
    check_items(&rows, seed);
    fill(&rows, rows.count + MANY, seed);
    CHECK(iova_rows_reserve(&rows, MANY), "more");
    check_items(&rows, seed);
    iova_rows_trim(&rows);
    check_items(&rows, seed);
    iova_rows_free(rows.items);
}

int main(void)
{
    for (unsigned how = 0; how < 8; how++) {
        test_growth(how & 1, how & 2, 1000 * how);
    }
    iova_rows_drop_spare();
    return check_result();
}
