/*
 * test_poll.c - long operations ask whether to go on, and end where they are told to: interrupted
 * at one question after the other, the report says exactly what was done, and a harvest loses
 * nothing. What is short is never asked about.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "check.h"
#include "iova_bitmap.h"

enum { PAGE = 4096, BYTES = 4 << 20, NROWS = 200000 };

static const uint64_t LENGTH = (uint64_t)BYTES * 8 * PAGE;
static uint8_t *memory, *before, *after, *other_memory, *into_memory;
static struct iova_bitmap *bitmap, *other, *into;
static struct iova_bitmap_range *rows;
static struct iova_bitmap_report report;
static bool sorted;     /* a batch goes in ascending order: where pins cost anything */
static uint64_t handed; /* pages in rows that were handed out */

/* Says stop from question `stop_at` on: undoing must not ask. */
static struct {
    uint64_t asked;
    uint64_t stop_at;
} plan;

static int poll(void *context)
{
    CHECK(context == &plan, "%p", context);
    return ++plan.asked >= plan.stop_at && plan.stop_at != 0;
}

/* Runs of all sorts: few, so that rows are few, and some that are long. */
static void fill(void)
{
    memset(memory, 0, BYTES);
    for (size_t i = 0; i < BYTES; i += 200) {
        memory[i] = (uint8_t)(i / 200);
    }
    memset(memory + BYTES / 2, 0xff, BYTES / 8);
    memset(into_memory, 0, BYTES);
}

static uint64_t count_bits(const uint8_t *bytes)
{
    uint64_t ones = 0;

    for (size_t i = 0; i < BYTES; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        ones += (uint64_t)__builtin_popcountll(word);
    }
    return ones;
}

static void keep(struct iova_bitmap_ranges *ranges)
{
    for (uint64_t i = 0; i < ranges->count; i++) {
        handed += ranges->rows[i].length / PAGE;
    }
    iova_bitmap_rows_free(ranges->rows);
}

/* ---- operations ---- */

static int op_set(void)
{
    return iova_bitmap_set(bitmap, 0, LENGTH, 0, &report);
}

static int op_test_and_set(void)
{
    return iova_bitmap_set(bitmap, 0, LENGTH, IOVA_BITMAP_COUNT, &report);
}

static int op_clear(void)
{
    return iova_bitmap_clear(bitmap, 0, LENGTH, 0, &report);
}

static int op_reset(void)
{
    return iova_bitmap_reset(bitmap, &report);
}

static int op_count(void)
{
    return iova_bitmap_count(bitmap, 0, LENGTH, 0, &report);
}

static int op_count_ranges(void)
{
    return iova_bitmap_count_ranges(bitmap, 0, LENGTH, 0, &report);
}

static int op_histogram(void)
{
    static uint64_t bins[100000];
    return iova_bitmap_histogram(bitmap, 100000, bins, &report);
}

static int op_ranges(void)
{
    struct iova_bitmap_ranges ranges = {0};
    int rc = iova_bitmap_ranges(bitmap, 0, LENGTH, 0, &ranges, &report);
    if (rc == 0) {
        keep(&ranges);
    }
    return rc;
}

static int op_pages(void)
{
    uint64_t *pages;
    int rc = iova_bitmap_pages(bitmap, 0, LENGTH, 0, &pages, &handed, &report);
    if (rc == 0) {
        iova_bitmap_rows_free(pages);
    }
    return rc;
}

static int op_read(void)
{
    return iova_bitmap_read(bitmap, into_memory, &report);
}

static int op_combine(void)
{
    return iova_bitmap_combine(bitmap, other, IOVA_BITMAP_XOR, &report);
}

static int op_count_combined(void)
{
    return iova_bitmap_count_combined(bitmap, other, IOVA_BITMAP_AND, &report);
}

static int op_equal(void)
{
    int rc = iova_bitmap_equal(bitmap, bitmap, &report);
    return rc < 0 ? rc : 0;
}

static int op_merge(void)
{
    return iova_bitmap_merge(bitmap, other, 0, &report);
}

static int op_set_ranges(void)
{
    uint64_t bad_row;
    return iova_bitmap_set_ranges(bitmap, rows, NROWS, 0, &bad_row, &report);
}

static int op_set_a_long_one(void)
{
    struct iova_bitmap_range two[2] = {{0, 1}, {0, LENGTH}};
    uint64_t bad_row;
    return iova_bitmap_set_ranges(bitmap, two, 2, 0, &bad_row, &report);
}

static int op_harvest(void)
{
    struct iova_bitmap_ranges ranges = {0};
    int rc = iova_bitmap_read_and_clear(bitmap, 0, LENGTH, 0, &ranges, &report);
    keep(&ranges);
    return rc;
}

static int op_move(void)
{
    return iova_bitmap_move_into(bitmap, 0, LENGTH, 0, into, &report);
}

enum effect { READS, IN_ORDER, ANY_ORDER, HARVESTS };

static const struct operation {
    const char *name;
    int (*run)(void);
    enum effect effect;
} operations[] = {
    {"set", op_set, IN_ORDER},
    {"test_and_set", op_test_and_set, IN_ORDER},
    {"clear", op_clear, IN_ORDER},
    {"reset", op_reset, IN_ORDER},
    {"count", op_count, READS},
    {"count_ranges", op_count_ranges, READS},
    {"histogram", op_histogram, READS},
    {"ranges", op_ranges, READS},
    {"pages", op_pages, READS},
    {"read", op_read, READS},
    {"combine", op_combine, IN_ORDER},
    {"count_combined", op_count_combined, READS},
    {"equal", op_equal, READS},
    {"merge", op_merge, IN_ORDER},
    {"set_ranges", op_set_ranges, ANY_ORDER},
    {"set_ranges of a long one", op_set_a_long_one, ANY_ORDER},
    {"read_and_clear", op_harvest, HARVESTS},
    {"move_into", op_move, HARVESTS},
};

static int run(const struct operation *operation, uint64_t stop_at)
{
    fill();
    plan.asked = 0;
    plan.stop_at = stop_at;
    handed = 0;
    return operation->run();
}

/* Bits before `cut` are those of `done`, and from there on those of `left`. */
static void check_cut(const uint8_t *done, const uint8_t *left, uint64_t cut)
{
    size_t byte = cut / 8;
    uint8_t mask = (uint8_t)(0xff << cut % 8);

    CHECK(memcmp(memory, done, byte) == 0, "before bit %" PRIu64 " not all is done", cut);
    CHECK_EQ(memory[byte], (done[byte] & ~mask) | (left[byte] & mask));
    CHECK(memcmp(memory + byte + 1, left + byte + 1, BYTES - byte - 1) == 0,
          "behind bit %" PRIu64 " something is done", cut);
}

static void check_interrupted(const struct operation *operation)
{
    int strange = 0;

    switch (operation->effect) {
    case READS:
        CHECK(memcmp(memory, before, BYTES) == 0, "the content changed");
        CHECK(report.length - 1 < LENGTH && report.iova == LENGTH - report.length,
              "%" PRIx64 " %" PRIx64, report.iova, report.length);
        break;
    case IN_ORDER:
        CHECK(report.length - 1 < LENGTH && report.iova == LENGTH - report.length,
              "%" PRIx64 " %" PRIx64, report.iova, report.length);
        check_cut(after, before, report.iova / PAGE);
        break;
    case ANY_ORDER: /* each bit as it was, or as it will be */
        for (size_t i = 0; i < BYTES; i++) {
            strange |= (memory[i] ^ before[i]) & ~(before[i] ^ after[i]);
        }
        CHECK_EQ(strange, 0);
        if (report.length == 0) { /* while the rows were checked */
            CHECK(memcmp(memory, before, BYTES) == 0, "something is done");
        } else if (!sorted) {
            CHECK_EQ(report.iova, 0); /* not sorted: rows of any place may be missing */
        }
        break;
    default:
        CHECK_EQ(count_bits(memory) + count_bits(into_memory), count_bits(before));
        CHECK_EQ(handed, 0);
        if (operation->run == op_move) {
            check_cut(after, before, report.iova / PAGE);
        } else {
            CHECK(memcmp(memory, before, BYTES) == 0, "not all was put back");
        }
    }
}

static uint64_t sweep(const struct operation *operation, const char *backend)
{
    fill();
    memcpy(before, memory, BYTES);
    CHECK_EQ(run(operation, 0), 0);
    uint64_t questions = plan.asked;
    memcpy(after, memory, BYTES);
    CHECK(questions >= 3, "%s, %s asks %" PRIu64 " times", operation->name, backend, questions);
    /* Of many rows the first ones all: they are checked and sorted there, in loops of their own. */
    const uint64_t all_to = operation->effect == ANY_ORDER ? 30 : 0;
    for (uint64_t n = 1; n <= questions; n += n < all_to ? 1 : 1 + questions / 16) {
        int failures = check_failures;
        CHECK_EQ(run(operation, n), -EINTR);
        CHECK_EQ(plan.asked, n);
        check_interrupted(operation);
        const struct iova_bitmap_stats *stats = iova_bitmap_stats(bitmap);
        iova_bitmap_release(bitmap);
        CHECK_EQ(stats->pins, stats->unpins);
        if (check_failures != failures) {
            printf("%s, %s: question %" PRIu64 " of %" PRIu64 "\n", operation->name, backend, n,
                   questions);
        }
    }
    return questions;
}

static void test_short_ones_are_not_asked_about(void)
{
    uint64_t bad_row;
    fill();
    plan.asked = 0;
    plan.stop_at = 1;
    CHECK_EQ(iova_bitmap_set(bitmap, 0, LENGTH / 8, 0, &report), 0);
    CHECK_EQ(iova_bitmap_count(bitmap, 0, LENGTH / 8, 0, &report), 0);
    CHECK_EQ(iova_bitmap_set_ranges(bitmap, rows, 100, 0, &bad_row, &report), 0);
    CHECK_EQ(plan.asked, 0);
}

static uint8_t *map(void)
{
    return mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static struct iova_bitmap *make(const char *backend, uint64_t window_pages, uint8_t *bytes)
{
    struct iova_bitmap_options options = {
        .window_pages = window_pages, .poll = poll, .poll_context = &plan};
    struct iova_bitmap *made = NULL;

    if (iova_bitmap_pin_backend(backend, &options.pin) == 0) {
        CHECK_EQ(iova_bitmap_alloc(0, LENGTH, PAGE, bytes, BYTES, &options, &made), 0);
    }
    return made;
}

int main(void)
{
    static const struct {
        const char *name;
        uint64_t window_pages;
    } kinds[] = {{"none", 0}, {"none", UINT64_MAX}, {"none", 3}, {"populate", 100}, {"mlock", 64}};
    uint64_t state = 5;
    uint64_t questions = 0;

    memory = map();
    before = map();
    after = map();
    other_memory = map();
    into_memory = map();
    rows = calloc(NROWS, sizeof(*rows));
    for (size_t i = 0; i < NROWS; i++) {
        rows[i].iova = (check_random(&state) >> 20) % (BYTES * (uint64_t)8) * PAGE;
        rows[i].length = i == 70000 ? LENGTH - rows[i].iova : 1;
    }
    for (size_t i = 0; i < BYTES; i += 90) {
        other_memory[i] = (uint8_t)(i / 9);
    }
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        bitmap = make(kinds[k].name, kinds[k].window_pages, memory);
        sorted = strcmp(kinds[k].name, "none") != 0;
        other = make("none", 0, other_memory);
        into = make("none", 0, into_memory);
        if (bitmap != NULL) {
            test_short_ones_are_not_asked_about();
            for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
                questions += sweep(&operations[i], kinds[k].name);
            }
        }
        iova_bitmap_free(bitmap);
        iova_bitmap_free(other);
        iova_bitmap_free(into);
    }
    free(rows);
    printf("interrupted at %" PRIu64 " questions\n", questions);
    return check_result();
}
