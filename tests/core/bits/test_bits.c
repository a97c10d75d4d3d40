/*
 * test_bits.c - every operation on runs of bits against an array of booleans: all positions in a
 * byte, all positions in a word, short and long; nothing beside a run is written or even read; and
 * no mark is lost or counted twice when two threads mark the same bytes.
 */
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "area.h"
#include "check.h"
#include "core/bits/bits.h"

enum { MAX_BITS = 5000, ROOM = 16 + MAX_BITS / 8 + 16, GUARD = 0xa5 };

static uint64_t seed = 20240229;

/* Bit n of the bytes from `bytes` on, the slow and plain way. */
static unsigned bit_at(const uint8_t *bytes, uint64_t n)
{
    return iova_atomic_load8(&bytes[n / 8]) / (1u << n % 8) % 2; /* a neighbour may mark it */
}

static uint64_t count_ones(const uint8_t *bytes, unsigned skip, uint64_t nbits)
{
    uint64_t ones = 0;
    for (uint64_t n = 0; n < nbits; n++) {
        ones += bit_at(bytes, skip + n);
    }
    return ones;
}

static void put_bit(uint8_t *bytes, uint64_t n, unsigned value)
{
    unsigned weight = 1u << n % 8;
    unsigned without = bytes[n / 8] - bit_at(bytes, n) * weight;
    bytes[n / 8] = (uint8_t)(without + value * weight);
}

/* Content of four kinds: random, sparse, nearly full, all of one kind. */
static void fill(uint8_t *bytes, size_t size, unsigned kind)
{
    for (size_t i = 0; i < size; i++) {
        uint8_t r = (uint8_t)(check_random(&seed) >> 11);
        uint8_t rare = (uint8_t)(check_random(&seed) % 8 == 0 ? r : 0);
        bytes[i] = kind % 5 == 0   ? r
                   : kind % 5 == 1 ? rare
                   : kind % 5 == 2 ? (uint8_t)~rare
                   : kind % 5 == 3 ? 0
                                   : 0xff;
    }
}

/* Where in its buffer a run lies. */
struct place {
    unsigned offset;
    unsigned skip;
    uint64_t nbits;
};

#define CHECK_AT(condition, place)                                                                 \
    CHECK(condition, "offset %u skip %u nbits %" PRIu64, (place).offset, (place).skip,             \
          (place).nbits)

static void test_write_ops(const uint8_t *before, struct place at)
{
    alignas(16) uint8_t got[ROOM];
    uint8_t set[ROOM];
    uint8_t clear[ROOM];
    uint64_t ones = 0;

    memcpy(set, before, ROOM);
    memcpy(clear, before, ROOM);
    for (uint64_t i = 0; i < at.nbits; i++) {
        ones += bit_at(before + at.offset, at.skip + i);
        put_bit(set + at.offset, at.skip + i, 1);
        put_bit(clear + at.offset, at.skip + i, 0);
    }
    memcpy(got, before, ROOM);
    iova_bits_set(got + at.offset, at.skip, at.nbits);
    CHECK_AT(memcmp(got, set, ROOM) == 0, at);
    CHECK_AT(count_ones(got + at.offset, at.skip, at.nbits) == at.nbits, at);

    memcpy(got, before, ROOM);
    CHECK_AT(iova_bits_test_and_set(got + at.offset, at.skip, at.nbits) == at.nbits - ones, at);
    CHECK_AT(memcmp(got, set, ROOM) == 0, at);
    CHECK_AT(iova_bits_test_and_set(got + at.offset, at.skip, at.nbits) == 0, at);
    CHECK_AT(memcmp(got, set, ROOM) == 0, at);

    memcpy(got, before, ROOM);
    iova_bits_clear(got + at.offset, at.skip, at.nbits);
    CHECK_AT(memcmp(got, clear, ROOM) == 0, at);
    CHECK_AT(count_ones(got + at.offset, at.skip, at.nbits) == 0, at);
}

static void test_copy_ops(const uint8_t *before, struct place at)
{
    const uint64_t used = (at.nbits + 7) / 8;
    alignas(16) uint8_t got[ROOM];
    uint8_t copy[ROOM];
    unsigned to = (unsigned)(check_random(&seed) >> 20) % 16;

    memset(got, GUARD, ROOM);
    memset(copy, GUARD, ROOM);
    memset(copy + to, 0, used);
    for (uint64_t i = 0; i < at.nbits; i++) {
        put_bit(copy + to, i, bit_at(before + at.offset, i));
    }
    iova_bits_copy(got + to, before + at.offset, at.nbits);
    CHECK_AT(memcmp(got, copy, ROOM) == 0, at);

    /* Equal runs, whatever lies beside them; then one bit that differs, first, last or between. */
    memcpy(got + to, before + at.offset, used);
    for (uint64_t n = at.nbits; n < used * 8; n++) {
        put_bit(got + to, n, !bit_at(got + to, n));
    }
    CHECK_AT(iova_bits_equal(got + to, before + at.offset, at.nbits), at);
    const uint64_t other[] = {0, at.nbits - 1, check_random(&seed) % at.nbits};
    for (int i = 0; i < 3; i++) {
        const uint64_t n = other[i];
        put_bit(got + to, n, !bit_at(got + to, n));
        CHECK_AT(!iova_bits_equal(got + to, before + at.offset, at.nbits), at);
        CHECK_AT(!iova_bits_equal(before + at.offset, got + to, at.nbits), at);
        put_bit(got + to, n, !bit_at(got + to, n));
    }
}

static void test_place(unsigned offset, unsigned skip, uint64_t nbits, unsigned kind)
{
    const struct place at = {offset, skip, nbits};
    alignas(16) uint8_t before[ROOM];

    fill(before, ROOM, kind);
    test_write_ops(before, at);
    if (skip == 0) {
        test_copy_ops(before, at);
    }
}

/* A run at the very end, or the very start, of what may be accessed at all. */
static void test_edges_of_memory(void)
{
    struct area area = area_map(1);
    struct area other = area_map(1);
    uint8_t *const first[2] = {area.bytes, other.bytes};
    uint8_t *const end[2] = {area.bytes + area.size, other.bytes + other.size};

    for (unsigned skip = 0; skip < 8; skip++) {
        for (uint64_t nbits = 1; nbits <= 200; nbits++) {
            uint64_t used = (skip + nbits + 7) / 8;
            for (int at_end = 0; at_end < 2; at_end++) {
                uint8_t *a = at_end ? end[0] - used : first[0];
                uint8_t *b = at_end ? end[1] - used : first[1];

                memset(a, 0, used);
                CHECK_EQ(iova_bits_test_and_set(a, skip, nbits), nbits);
                CHECK_EQ(count_ones(a, skip, nbits), nbits);
                iova_bits_clear(a, skip, nbits);
                CHECK_EQ(count_ones(a, 0, used * 8), 0);
                iova_bits_set(a, skip, nbits);
                iova_bits_copy(b, a, 8 * used);
                CHECK(memcmp(a, b, used) == 0, "skip %u nbits %" PRIu64, skip, nbits);
                CHECK(iova_bits_equal(a, b, skip + nbits), "skip %u nbits %" PRIu64, skip, nbits);
            }
        }
    }
    area_unmap(&area);
    area_unmap(&other);
}

static void test_words(void)
{
    uint8_t bytes[16];

    for (unsigned offset = 0; offset <= 8; offset++) {
        fill(bytes, sizeof(bytes), 0);
        uint64_t word = iova_bits_load64(bytes + offset);
        unsigned ones = 0;
        for (unsigned n = 0; n < 64; n++) {
            CHECK_EQ(word >> n & 1, bit_at(bytes + offset, n));
            ones += bit_at(bytes + offset, n);
        }
        CHECK_EQ(iova_popcount64(word), ones);
    }
    CHECK_EQ(iova_popcount64(0), 0);
    CHECK_EQ(iova_popcount64(UINT64_MAX), 64);
    for (unsigned n = 0; n < 8; n++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            CHECK_EQ(iova_bits_from(n) >> bit & 1, bit >= n);
            CHECK_EQ(iova_bits_upto(n) >> bit & 1, bit <= n);
        }
    }
}

/* --- two threads --------------------------------------------------------------------- */

enum { SHARED = 8192, REGION = 40, RUN = 3 };

static const double DURATION =
    0.3; /* s of each test: they meet by chance, more often on an idle machine */

static alignas(16) uint8_t shared[SHARED];

struct marker {
    atomic_uint *steps; /* of each of the two, which go in step */
    unsigned self;      /* 0 or 1 */
    uint64_t sum;       /* bits turned on by this thread */
    double until;       /* when to stop */
    uint64_t wrong;     /* answers that only a lost mark explains */
    void (*work)(struct marker *);
};

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Waits until the other has come as far. */
static void step(struct marker *m)
{
    unsigned mine = atomic_fetch_add(&m->steps[m->self], 1) + 1;

    while (atomic_load(&m->steps[!m->self]) < mine) {
        sched_yield();
    }
}

/* Neighbouring runs in the same bytes: each finds its own bits as it left them. */
static void work_beside(struct marker *m)
{
    step(m);
    for (unsigned pass = 0; pass % 50 != 0 || seconds() < m->until; pass++) {
        const uint64_t end = pass / 2 % 2 ? 64 : 512; /* few bytes, and several cache lines */
        for (uint64_t bit = m->self * RUN; bit + RUN <= end; bit += RUN * 2) {
            uint8_t *bytes = shared + bit / 8;
            const unsigned skip = (unsigned)(bit % 8);
            if (pass % 2) {
                iova_bits_set(bytes, skip, RUN);
            } else {
                m->wrong += iova_bits_test_and_set(bytes, skip, RUN) != RUN;
            }
            m->wrong += count_ones(bytes, skip, RUN) != RUN;
            iova_bits_clear(bytes, skip, RUN);
            m->wrong += count_ones(bytes, skip, RUN) != 0;
        }
    }
}

/* The same bits at the same moment, one region after the other: one of the two counts each. */
static void work_same(struct marker *m)
{
    for (uint64_t at = 0; at + REGION <= SHARED; at += REGION) {
        step(m);
        m->sum += iova_bits_test_and_set(shared + at, 0, REGION * 8);
    }
}

static void *run_marker(void *opaque)
{
    struct marker *m = opaque;

    m->work(m);
    return NULL;
}

static uint64_t run_both(void (*work)(struct marker *))
{
    const double until = seconds() + DURATION;
    atomic_uint steps[2] = {0, 0};
    struct marker a = {.steps = steps, .self = 0, .work = work, .until = until};
    struct marker b = {.steps = steps, .self = 1, .work = work, .until = until};
    pthread_t thread;

    memset(shared, 0, SHARED);
    if (pthread_create(&thread, NULL, run_marker, &b) != 0) {
        check_skip("no second thread");
    }
    work(&a);
    pthread_join(thread, NULL);
    CHECK_EQ(a.wrong + b.wrong, 0);
    return a.sum + b.sum;
}

static void test_threads(void)
{
    run_both(work_beside);
    CHECK_EQ(count_ones(shared, 0, SHARED * 8), 0);
    for (double end = seconds() + DURATION; seconds() < end;) {
        CHECK_EQ(run_both(work_same), SHARED / REGION * REGION * 8);
    }
}

int main(void)
{
    unsigned kind = 0;

    test_words();
    for (unsigned skip = 0; skip < 8; skip++) {
        for (unsigned offset = 0; offset < 16; offset++) {
            for (uint64_t nbits = 1; nbits <= 200; nbits++) {
                test_place(offset, skip, nbits, kind++);
            }
        }
    }
    for (int i = 0; i < 500; i++) {
        test_place((unsigned)(check_random(&seed) % 16), (unsigned)(check_random(&seed) % 8),
                   1 + check_random(&seed) % (MAX_BITS - 8), kind++);
    }
    test_edges_of_memory();
    test_threads();
    return check_result();
}
