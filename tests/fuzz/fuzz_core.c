/*
 * fuzz_core.c - coverage-guided fuzzing of the whole public C API: a byte string becomes
 * geometries, memory, pins that are short or fail, the inner loops of a CPU, and a list of
 * operations, each of which is compared with the model (subject.c).
 *
 * Built with libFuzzer this is its target; with replay.c it runs the inputs of files. Both print at
 * the end how many operations there were.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_OPERATIONS = 40 };

static struct {
    const uint8_t *at;
    size_t left;
} input;

uint8_t next8(void)
{
    if (input.left == 0) {
        return 0;
    }
    input.left--;
    return *input.at++;
}

uint16_t next16(void)
{
    const uint16_t low = next8();

    return (uint16_t)(low | next8() << 8);
}

/* One byte says how many follow, so that small numbers and those near 2**64 are short. */
uint64_t next64(void)
{
    const uint8_t kind = next8();
    uint64_t value = 0;

    for (unsigned i = 0; i < kind % 9; i++) {
        value = value << 8 | next8();
    }
    return kind & 128 ? UINT64_MAX - value : kind & 64 ? value << (kind & 32 ? 31 : 12) : value;
}

bool input_left(void)
{
    return input.left != 0;
}

/* Any arguments at all: made or refused as the definition says, and without touching the memory. */
void fuzz_alloc(void)
{
    const uint64_t iova = next64();
    const uint64_t length = next64();
    const uint64_t page_size = next8() & 1 ? (uint64_t)1 << next8() % 64 : next64();
    const uint64_t size = next64();
    static uint8_t nowhere[1];
    struct iova_bitmap *made = NULL;
    const struct iova_bitmap_pin_ops *ops = NULL;
    int want = 0;

    if (length == 0 || page_size == 0 || (page_size & (page_size - 1)) != 0) {
        want = -EINVAL;
    } else if ((wide)iova + length > TOP) {
        want = -EOVERFLOW;
    } else {
        const wide nbits = ((wide)length + page_size - 1) / page_size;
        const wide nbytes = (nbits + 7) / 8;
        const bool no_end = size > UINTPTR_MAX - (uintptr_t)nowhere;
        want = size < nbytes ? -ENOSPC : no_end ? -EINVAL : 0;
        REQUIRE(iova_bitmap_nbytes(length, page_size) == nbytes);
    }
    REQUIRE(iova_bitmap_alloc(iova, length, page_size, nowhere, size, NULL, &made) == want);
    if (want == 0) {
        const struct iova_bitmap_geometry *g = iova_bitmap_geometry(made);
        REQUIRE(g->iova == iova && g->length == length && g->page_size == page_size);
        REQUIRE(g->last == (wide)iova + length - 1 && (uint64_t)1 << g->pgshift == page_size);
        REQUIRE(g->nbits == ((wide)length + page_size - 1) / page_size);
        iova_bitmap_free(made);
    }
    REQUIRE(want == -EINVAL || want == -EOVERFLOW ||
            iova_bitmap_alloc(iova, length, page_size, NULL, size, NULL, &made) == -EFAULT);
    REQUIRE(iova_bitmap_pin_backend("no such", &ops) == -EINVAL);
    REQUIRE(iova_bitmap_pin_backend("none", &ops) == 0 && ops != NULL);
    iova_bitmap_free(NULL);
}

static uint64_t operations;

static void print_operations(void)
{
    fprintf(stderr, "operations: %" PRIu64 "\n", operations);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return atexit(print_operations);
}

static struct subject *one_of(struct subjects *all, unsigned which)
{
    return which % 4 == 0 ? &all->cover : which % 4 == 1 ? &all->like : &all->main;
}

static void run_one(struct subjects *all)
{
    const unsigned which = next8();
    const unsigned kind = which % (MARKS + ASKS + PAIRS + 1);

    operations++;
    subject_forget(&all->main);
    subject_forget(&all->like);
    subject_forget(&all->cover);
    fault_plan();
    if (which >= TRACK) {
        fuzz_track(all);
    } else if (kind < MARKS) {
        fuzz_mark(one_of(all, next8()), kind);
    } else if (kind < MARKS + ASKS) {
        fuzz_ask(one_of(all, next8()), kind - MARKS);
    } else if (kind < MARKS + ASKS + PAIRS) {
        fuzz_pair(all, kind - MARKS - ASKS);
    } else {
        fuzz_alloc();
    }
    fault_clear();
    subject_check(&all->main);
    subject_check(&all->like);
    subject_check(&all->cover);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct subjects all;

    input.at = data;
    input.left = size;
    choose_kernels(next8());
    fault_clear();
    subject_open(&all.main, NULL);
    subject_open(&all.like, &all.main);
    if (next8() & 1) { /* nearly alike */
        for (unsigned bit = 0; bit < all.main.nbits; bit++) {
            put(&all.like, bit, bit + 1, all.main.dirty[bit]);
        }
        subject_put_memory(&all.like);
    }
    subject_open_cover(&all.cover, &all.main);
    system_holes_in((struct subject *const[]){&all.main, &all.like, &all.cover}, 3);
    for (unsigned i = 0; i < MOST_OPERATIONS && input_left(); i++) {
        run_one(&all);
    }
    subject_close(&all.main);
    subject_close(&all.like);
    subject_close(&all.cover);
    return 0;
}
