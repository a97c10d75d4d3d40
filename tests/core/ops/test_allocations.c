/*
 * test_allocations.c - the engine without memory: each allocation of each operation fails at its
 * turn, alone and with all after it. Nothing is lost or made up, nothing leaks a pin, and the same
 * call works once memory is there again.
 */
#ifdef __SANITIZE_ADDRESS__
#include "check.h"

int main(void)
{
    check_skip("a sanitizer's runtime stands before the C library's allocations already");
    return 0;
}

#else
#include "../../support/failing.c"

#include "check.h"
#include "core/sources/write_tracker.h"
#include "iova_bitmap.h"

extern char __executable_start, etext; /* the linker's */

enum { PAGE = 4096, BYTES = 20 << 20, DIRTY_BYTES = 6000 };

static size_t nbytes; /* of the bitmap: many with "none" only, which then looks for holes */

static const uint64_t BASE = 0x1800;
static uint8_t *memory, *other_memory, *before, *after;

/* What an operation works on. */
struct world {
    struct iova_bitmap *bitmap;
    struct iova_bitmap *other;
    struct iova_bitmap *into; /* pages of half the size */
    uint8_t *into_memory;
    struct iova_bitmap_range found[2]; /* what was handed out: first and last row */
    uint64_t nfound;
    uint64_t handed; /* pages in the rows that were handed out */
};

static struct iova_bitmap_range rows[70000];

static uint64_t count_bits(const uint8_t *bytes, size_t size)
{
    uint64_t ones = 0;

    for (size_t i = 0; i < size; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        ones += (uint64_t)__builtin_popcountll(word);
    }
    return ones;
}

/* Every page of some bytes at the start and in the middle is dirty at random; the rest is a hole.
 */
static void fill(void)
{
    uint64_t state = 3;

    madvise(memory, nbytes, MADV_DONTNEED);
    for (size_t i = 0; i < DIRTY_BYTES; i++) {
        memory[i] = memory[nbytes / 2 + i] = (uint8_t)(check_random(&state) >> 20);
    }
}

static struct world make(const char *backend)
{
    struct world world = {0};
    struct iova_bitmap_options options = {0};
    uint64_t length = (uint64_t)nbytes * 8 * PAGE;

    fill();
    CHECK_EQ(iova_bitmap_pin_backend(backend, &options.pin), 0);
    options.window_pages = 40;
    CHECK_EQ(iova_bitmap_alloc(BASE, length, PAGE, memory, nbytes, &options, &world.bitmap), 0);
    CHECK_EQ(iova_bitmap_alloc(BASE, length, PAGE, other_memory, nbytes, NULL, &world.other), 0);
    world.into_memory = mmap(NULL, 2 * nbytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK_EQ(
        iova_bitmap_alloc(BASE, length, PAGE / 2, world.into_memory, 2 * nbytes, NULL, &world.into),
        0);
    return world;
}

static void drop(struct world *world)
{
    iova_bitmap_release(world->bitmap);
    const struct iova_bitmap_stats *stats = iova_bitmap_stats(world->bitmap);
    CHECK_EQ(stats->pins, stats->unpins);
    CHECK_EQ(stats->pinned_pages, 0);
    iova_bitmap_free(world->bitmap);
    iova_bitmap_free(world->other);
    iova_bitmap_free(world->into);
    munmap(world->into_memory, 2 * nbytes);
}

/* ---- operations: 0, or what the engine returned ---- */

static struct iova_bitmap_report report;

static void keep(struct world *world, struct iova_bitmap_ranges *ranges)
{
    for (uint64_t i = 0; i < ranges->count; i++) {
        world->handed += (ranges->rows[i].length + PAGE - 1) / PAGE;
    }
    iova_bitmap_rows_free(ranges->rows);
}

static int op_alloc(struct world *world)
{
    struct iova_bitmap *made = NULL;
    int rc = iova_bitmap_alloc(0, nbytes, PAGE, memory, nbytes, NULL, &made);
    (void)world;
    iova_bitmap_free(made);
    return rc;
}

static int op_ranges(struct world *world)
{
    struct iova_bitmap_ranges ranges = {0};
    const struct iova_bitmap_geometry *geometry = iova_bitmap_geometry(world->bitmap);
    int rc = iova_bitmap_ranges(world->bitmap, BASE, geometry->length, 0, &ranges, &report);
    if (rc == 0) {
        keep(world, &ranges);
    }
    return rc;
}

static int op_pages(struct world *world)
{
    uint64_t *pages;
    const struct iova_bitmap_geometry *geometry = iova_bitmap_geometry(world->bitmap);
    int rc = iova_bitmap_pages(world->bitmap, BASE, geometry->length, 0, &pages, &world->handed,
                               &report);
    if (rc == 0) {
        iova_bitmap_rows_free(pages);
    }
    return rc;
}

static int op_combined(struct world *world)
{
    struct iova_bitmap_ranges ranges = {0};
    int rc =
        iova_bitmap_ranges_combined(world->bitmap, world->other, IOVA_BITMAP_SUB, &ranges, &report);
    if (rc == 0) {
        keep(world, &ranges);
    }
    return rc;
}

static int op_harvest(struct world *world)
{
    struct iova_bitmap_ranges ranges = {0};
    const struct iova_bitmap_geometry *geometry = iova_bitmap_geometry(world->bitmap);
    int rc = iova_bitmap_read_and_clear(world->bitmap, BASE, geometry->length, 0, &ranges, &report);
    keep(world, &ranges); /* also where it could not be put back */
    return rc;
}

static int op_move(struct world *world)
{
    const struct iova_bitmap_geometry *geometry = iova_bitmap_geometry(world->bitmap);
    return iova_bitmap_move_into(world->bitmap, BASE, geometry->length, 0, world->into, &report);
}

static int op_merge(struct world *world)
{
    return iova_bitmap_merge(world->into, world->bitmap, 0, &report);
}

static int op_batch(struct world *world)
{
    uint64_t bad_row;
    uint64_t count = sizeof(rows) / sizeof(rows[0]);
    return iova_bitmap_set_ranges(world->bitmap, rows, count, 0, &bad_row, &report);
}

static int op_track(struct world *world)
{
    struct iova_write_tracker *tracker = NULL;
    int rc = iova_write_tracker_new(other_memory, 1 << 20, BASE, PAGE, &tracker);
    if (rc == 0 && iova_write_tracker_start(tracker) == 0) {
        other_memory[5 * PAGE] = 0;
        rc = iova_write_tracker_collect(tracker, world->into, NULL, &report);
    }
    iova_write_tracker_free(tracker);
    return rc;
}

static const struct operation {
    const char *name;
    int (*run)(struct world *world);
    bool harvests; /* every page is in rows, in `into`, or still there */
    bool marks;
} operations[] = {
    {"alloc", op_alloc, false, false},           {"ranges", op_ranges, false, false},
    {"pages", op_pages, false, false},           {"ranges of two", op_combined, false, false},
    {"read_and_clear", op_harvest, true, false}, {"move_into", op_move, true, false},
    {"merge", op_merge, false, false},           {"set_ranges", op_batch, false, true},
    {"tracker", op_track, false, false},
};

static int run(const struct operation *operation, struct world *world, int64_t first, int64_t last)
{
    iova_failing.first = first;
    iova_failing.last = last;
    iova_failing.count = 0;
    iova_failing.armed = 1;
    int rc = operation->run(world);
    iova_failing.armed = 0;
    return rc;
}

static void check_content(const struct operation *operation, const struct world *world, int rc)
{
    if (operation->harvests && rc != 0) {
        uint64_t moved = count_bits(world->into_memory, 2 * nbytes) / 2;
        CHECK_EQ(count_bits(memory, nbytes) + moved + world->handed, count_bits(before, nbytes));
    } else if (rc == 0) {
        CHECK(memcmp(memory, after, nbytes) == 0, "another content");
    } else if (operation->marks) {
        for (size_t i = 0; i < nbytes; i++) {
            if (((memory[i] ^ before[i]) & ~(before[i] ^ after[i])) != 0) {
                CHECK(false, "byte %zu", i);
                break;
            }
        }
    } else {
        CHECK(memcmp(memory, before, nbytes) == 0, "the content changed");
    }
}

static int64_t sweep(const struct operation *operation, const char *backend)
{
    struct world world = make(backend);

    memcpy(before, memory, nbytes);
    CHECK_EQ(run(operation, &world, 0, 0), 0);
    int64_t points = iova_failing.count;
    uint64_t handed = world.handed;
    memcpy(after, memory, nbytes);
    drop(&world);
    for (int64_t n = 1; n <= points; n++) {
        for (int all = 0; all < 2; all++) {
            int failures = check_failures;
            world = make(backend);
            int rc = run(operation, &world, n, all ? INT64_MAX : n);
            CHECK(rc == 0 || rc == -ENOMEM, "%d", rc);
            CHECK(rc != 0 || world.handed == handed, "%" PRIu64, world.handed);
            check_content(operation, &world, rc);
            if (rc != 0 && world.handed == 0) {
                CHECK_EQ(operation->run(&world), 0);
                check_content(operation, &world, 0);
            }
            drop(&world);
            if (check_failures != failures) {
                printf("%s, %s: allocation %" PRId64 " of %" PRId64 "%s\n", operation->name,
                       backend, n, points, all ? " and all after it" : "");
            }
        }
    }
    return points;
}

static uint8_t *map(void)
{
    return mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                -1, 0);
}

int main(void)
{
    static const char *const backends[] = {"none", "mlock", "populate"};
    const struct iova_bitmap_pin_ops *ops;
    uint64_t state = 9;
    int64_t points = 0;

    iova_failing.code_start = (int64_t)(intptr_t)&__executable_start;
    iova_failing.code_end = (int64_t)(intptr_t)&etext;
    memory = map();
    other_memory = map();
    before = map();
    after = map();
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        rows[i].iova = BASE + (check_random(&state) >> 20) % (8 * (BYTES >> 6)) * PAGE;
        rows[i].length = 1;
    }
    for (size_t b = 0; b < sizeof(backends) / sizeof(backends[0]); b++) {
        nbytes = b == 0 ? BYTES : BYTES >> 6;
        if (iova_bitmap_pin_backend(backends[b], &ops) == 0) {
            for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
                points += sweep(&operations[i], backends[b]);
            }
        }
    }
    CHECK(points > 20, "%" PRId64, points);
    printf("%" PRId64 " allocations failed\n", points);
    return check_result();
}

#endif
