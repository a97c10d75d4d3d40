/*
 * test_snapshot.c - comparing memory with its copy: which pages, no byte beside, and short ends.
 */
#include <string.h>

#include "area.h"
#include "check.h"
#include "core/sources/snapshot.h"

/* `size` bytes right before an inaccessible page, some of them changed at random. */
static void test_size(struct area *memory, struct area *shadow, uint64_t size, uint64_t page_size,
                      uint64_t seed)
{
    uint8_t *now = memory->bytes + memory->size - size;
    uint8_t *copy = shadow->bytes + shadow->size - size;
    const uint64_t npages = (size + page_size - 1) / page_size;
    uint8_t want[4096] = {0}, got[4096];
    uint64_t count = 0;

    memcpy(copy, now, size);
    for (int i = 0; i < 5; i++) {
        uint64_t at = check_random(&seed) % size;
        now[at] = (uint8_t)~copy[at];
        count += !want[at / page_size];
        want[at / page_size] = 1;
    }
    memset(got, 7, sizeof(got));
    CHECK_EQ(iova_snapshot_diff(now, copy, size, page_size, got), count);
    CHECK(memcmp(got, want, npages) == 0, "size %" PRIu64 " page %" PRIu64, size, page_size);
    CHECK(npages == sizeof(got) || got[npages] == 7, "a byte behind the last page was written");
    CHECK(memcmp(now, copy, size) == 0, "the shadow is not up to date");
    CHECK_EQ(iova_snapshot_diff(now, copy, size, page_size, got), 0);
}

int main(void)
{
    struct area memory = area_map(4), shadow = area_map(4);
    const uint64_t sizes[] = {1, 2, 63, 64, 4095, 4096, 4097, memory.size - 1, memory.size};
    const uint64_t page_sizes[] = {16, 64, 4096, 1 << 20, UINT64_C(1) << 63};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t j = 0; j < sizeof(page_sizes) / sizeof(page_sizes[0]); j++) {
            if (sizes[i] / page_sizes[j] < 4096) {
                test_size(&memory, &shadow, sizes[i], page_sizes[j], 1 + i * 8 + j);
            }
        }
    }
    uint8_t untouched = 7;
    CHECK_EQ(iova_snapshot_diff(NULL, NULL, 0, 4096, &untouched), 0);
    CHECK_EQ(untouched, 7);
    area_unmap(&memory);
    area_unmap(&shadow);
    return check_result();
}
