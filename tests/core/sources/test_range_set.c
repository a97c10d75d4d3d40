/*
 * test_range_set.c - the set of ranges that the write tracker keeps, against an array of booleans.
 */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "core/sources/range_set.h"

enum { SPACE = 64 };

/* The booleans stand for the addresses from `base` on; ranges are sorted, merged and not empty. */
static void check_against(const struct iova_range_set *set, const unsigned char *model,
                          uint64_t base)
{
    unsigned char seen[SPACE] = {0};

    for (size_t i = 0; i < set->count; i++) {
        const struct iova_range item = set->items[i];
        CHECK(item.first <= item.last, "item %zu", i);
        CHECK(i == 0 || set->items[i - 1].last + 1 < item.first, "items %zu touch", i);
        for (uint64_t at = item.first; at - base <= item.last - base; at++) {
            seen[at - base] = 1;
        }
    }
    CHECK(memcmp(seen, model, SPACE) == 0, "content at base 0x%" PRIx64, base);
}

static void test_random(uint64_t base, uint64_t seed)
{
    struct iova_range_set set = {0};
    unsigned char model[SPACE] = {0};

    for (int step = 0; step < 20000; step++) {
        uint64_t low = check_random(&seed) % SPACE;
        uint64_t high = low + check_random(&seed) % (SPACE - low);
        if (check_random(&seed) % 2) {
            high = low + (high - low) / 8;
        }
        CHECK_EQ(iova_range_set_reserve(&set, 1), 0);
        if (check_random(&seed) % 3 != 0) {
            iova_range_set_add(&set, base + low, base + high);
            memset(&model[low], 1, high - low + 1);
        } else {
            struct iova_range out[3];
            size_t n = iova_range_set_take(&set, base + low, base + high, out, 3);
            uint64_t next = low;
            for (size_t i = 0; i < n; i++) {
                uint64_t first = out[i].first - base;
                uint64_t last = out[i].last - base;
                CHECK(first >= next && last <= high && first <= last, "taken %zu", i);
                for (uint64_t at = next; at < first; at++) {
                    CHECK(!model[at], "skipped %" PRIu64, at);
                }
                for (uint64_t at = first; at <= last; at++) {
                    CHECK(model[at], "made up %" PRIu64, at);
                }
                memset(&model[first], 0, last - first + 1);
                next = last + 1;
            }
            for (uint64_t at = next; n < 3 && at <= high; at++) {
                CHECK(!model[at], "left %" PRIu64, at);
            }
        }
        check_against(&set, model, base);
    }
    iova_range_set_free(&set);
}

static void test_memory(void)
{
    struct iova_range_set set = {0};

    CHECK_EQ(iova_range_set_reserve(&set, 2), 0);
    iova_range_set_add(&set, 5, 6);
    CHECK_EQ(iova_range_set_reserve(&set, SIZE_MAX), -ENOMEM);
    CHECK_EQ(set.count, 1);
    CHECK_EQ(set.items[0].last, 6);
    iova_range_set_free(&set);
    CHECK_EQ(set.count, 0);
}

int main(void)
{
    test_random(0, 1);
    test_random(1000, 2);
    test_random(UINT64_MAX - SPACE + 1, 3); /* the last address of all is in it */
    test_memory();
    return check_result();
}
