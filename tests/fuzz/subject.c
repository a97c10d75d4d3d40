/*
 * subject.c - the subjects of the fuzz harness: geometry, memory and pins from the input, and the
 * model that they are compared with.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bits/kernels.h"
#include "fuzz.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WATCHED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define WATCHED 1
#endif

#ifdef WATCHED
#include <sanitizer/asan_interface.h>
#define UNWATCHED __attribute__((no_sanitize("address")))
enum { BEHIND = 0 }; /* guard bytes behind the bitmap: the sanitizer's own */
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define UNWATCHED
enum { BEHIND = 16 };
#endif

_Noreturn void fuzz_fail(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
    abort();
}

/* --- in the place of the engine's ----------------------------------------------------------- */

uint64_t __wrap_iova_bitmap_host_page_size(void);
const struct iova_kernels *__wrap_iova_kernels(void);
static const struct iova_kernels *kernels;

uint64_t __wrap_iova_bitmap_host_page_size(void)
{
    return PAGE;
}

const struct iova_kernels *__wrap_iova_kernels(void)
{
    return kernels;
}

void choose_kernels(unsigned which)
{
    const struct iova_kernels *all[4];

    kernels = all[which % iova_kernels_available(all)];
}

/* --- pins ------------------------------------------------------------------------------------ */

static struct {
    unsigned calls_before; /* UINT_MAX: none */
    enum { SHORT, FAILS, NOTHING, TOO_MANY } kind;
    bool seen;
} fault;

void fault_plan(void)
{
    const uint8_t byte = next8();

    fault.calls_before = byte < 128 ? UINT32_MAX : byte & 7;
    fault.kind = byte >> 4 & 3;
    fault.seen = false;
}

void fault_clear(void)
{
    fault.calls_before = UINT32_MAX;
    fault.seen = false;
}

bool fault_seen(void)
{
    return fault.seen;
}

static int64_t answer(uint64_t npages)
{
    if (fault.calls_before == UINT32_MAX || fault.calls_before-- != 0) {
        return (int64_t)npages;
    }
    fault.calls_before = UINT32_MAX;
    if (fault.kind == SHORT) {
        return 1;
    }
    fault.seen = true;
    return fault.kind == FAILS ? -EIO : fault.kind == NOTHING ? 0 : (int64_t)npages + 1;
}

void subject_watch(const struct subject *s, size_t page, bool usable)
{
    size_t start = page * PAGE < s->offset ? s->offset : page * PAGE;
    size_t end =
        (page + 1) * PAGE < s->offset + s->nbytes ? (page + 1) * PAGE : s->offset + s->nbytes;

    if (usable) {
        ASAN_UNPOISON_MEMORY_REGION(s->memory + start, end - start);
    } else {
        ASAN_POISON_MEMORY_REGION(s->memory + start, end - start);
    }
}

UNWATCHED bool subject_is_zero(const struct subject *s, size_t page)
{
    const size_t stop = s->offset + s->nbytes;

    for (size_t i = page * PAGE; i < (page + 1) * PAGE && i < stop; i++) {
        if (i >= s->offset && s->memory[i] != 0) {
            return false;
        }
    }
    return true;
}

static size_t check_pages(const struct subject *s, uintptr_t address, uint64_t npages)
{
    const uintptr_t from = address - (uintptr_t)s->memory;
    const size_t pages = (s->offset + s->nbytes - 1) / PAGE + 1;

    REQUIRE(from % PAGE == 0 && npages >= 1);
    REQUIRE(from / PAGE < pages && npages <= pages - from / PAGE);
    return from / PAGE;
}

static int64_t pin(void *context, uintptr_t address, uint64_t npages,
                   enum iova_bitmap_access access)
{
    struct subject *s = context;
    const size_t first = check_pages(s, address, npages);
    const int64_t got = answer(npages);

    REQUIRE(access == IOVA_BITMAP_READ || access == IOVA_BITMAP_WRITE);
    if (got >= 1 && (uint64_t)got <= npages) {
        s->held++;
        for (size_t page = first; page < first + (size_t)got; page++) {
            s->users[page]++;
            subject_watch(s, page, true);
        }
    }
    return got;
}

static void unpin(void *context, uintptr_t address, uint64_t npages)
{
    struct subject *s = context;
    const size_t first = check_pages(s, address, npages);

    REQUIRE(s->held > 0);
    s->held--;
    for (size_t page = first; page < first + npages; page++) {
        REQUIRE(s->users[page] > 0);
        if (--s->users[page] == 0) {
            subject_watch(s, page, false);
        }
    }
}

static int64_t touch(void *context, uintptr_t address, uint64_t npages,
                     enum iova_bitmap_access access)
{
    const struct subject *s = context;
    const size_t first = check_pages(s, address, npages);
    const int64_t got = answer(npages);

    REQUIRE(access == IOVA_BITMAP_WRITE);
    for (size_t page = first; got > 0 && page < first + (size_t)got && page < first + npages;
         page++) {
        REQUIRE(s->users[page] > 0);
        subject_watch(s, page, (uint64_t)got <= npages);
    }
    return got;
}

void subject_forget(struct subject *s)
{
    for (size_t page = 0; s->touches && page < MAX_PAGES; page++) {
        if (s->users[page] > 0) {
            subject_watch(s, page, false);
        }
    }
}

static const struct iova_bitmap_pin_ops plain_pins = {.pin = pin, .unpin = unpin};
static const struct iova_bitmap_pin_ops touching_pins = {
    .pin = pin, .unpin = unpin, .touch = touch};

/* --- geometry and memory ---------------------------------------------------------------------- */

wide address_of(const struct subject *s, unsigned bit)
{
    return s->base + ((wide)bit << s->shift);
}

unsigned bit_of(const struct subject *s, wide address)
{
    return (unsigned)((address - s->base) >> s->shift);
}

static uint32_t noise(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

/* Content of runs, whose lengths the input says. */
static void fill(struct subject *s)
{
    uint32_t state = next16();
    const unsigned longest = 1u << (next8() % 13); /* 4096: often one run */
    const unsigned kind = next8();

    for (size_t i = 0; i < s->size; i++) {
        s->expected[i] = (uint8_t)noise(&state);
    }
    for (unsigned bit = 0; bit < s->nbits;) {
        unsigned run = 1 + noise(&state) % longest;
        unsigned stop = run < s->nbits - bit ? bit + run : s->nbits;
        put(s, bit, stop, kind % 4 == 0 ? false : kind % 4 == 1 ? true : noise(&state) & 1);
        bit = stop;
    }
}

/* Where the model was changed without an operation. */
UNWATCHED void subject_put_memory(struct subject *s)
{
    for (size_t i = 0; i < s->size; i++) {
        s->memory[i] = s->expected[i];
    }
}

static void take_memory(struct subject *s)
{
    const uint8_t how = next8();
    struct iova_bitmap_options options = {.window_pages = next8() % 10, .pin_context = s};
    void *memory = NULL;

    s->offset = next8() % PAGE;
    s->nbytes = (s->nbits + 7) / 8;
    s->size = s->offset + s->nbytes + BEHIND;
    s->expected = malloc(s->size);
    REQUIRE(posix_memalign(&memory, PAGE, s->size) == 0 && s->expected != NULL);
    s->memory = memory;
    fill(s);
    memcpy(s->memory, s->expected, s->size);
    s->pins = how % 4 != 0;
    s->touches = how % 4 == 1;
    s->shared = how >> 2 & 1;
    s->absent = (uint8_t)(how >> 3) * 9; /* with how >= 128 as good as all */
    options.pin = how % 4 == 0 ? NULL : how % 4 == 1 ? &touching_pins : &plain_pins;
    REQUIRE(iova_bitmap_alloc((uint64_t)s->base, (uint64_t)(s->end - s->base),
                              (uint64_t)1 << s->shift, s->memory + s->offset, s->nbytes, &options,
                              &s->bitmap) == 0);
    ASAN_POISON_MEMORY_REGION(s->memory, s->offset);
    for (size_t page = 0; s->pins && page <= (s->offset + s->nbytes - 1) / PAGE; page++) {
        subject_watch(s, page, false);
    }
}

void subject_open(struct subject *s, const struct subject *like)
{
    memset(s, 0, sizeof(*s));
    if (like != NULL) {
        s->base = like->base;
        s->end = like->end;
        s->shift = like->shift;
        s->nbits = like->nbits;
    } else {
        s->shift = next8() % 64;
        s->nbits = 1 + next16() % MAX_BITS;
        const wide most = TOP >> s->shift;
        s->nbits = s->nbits > most ? (unsigned)most : s->nbits;
        wide length = (wide)s->nbits << s->shift;
        length -= next64() % ((uint64_t)1 << s->shift); /* the last page is a part of one */
        length = length == TOP ? TOP - 1 : length;
        const uint8_t where = next8();
        s->base = where % 3 == 0 ? 0 : where % 3 == 1 ? TOP - length : next64();
        s->base = s->base + length > TOP ? TOP - length : s->base;
        s->end = s->base + length;
    }
    take_memory(s);
}

void subject_open_cover(struct subject *s, const struct subject *covered)
{
    memset(s, 0, sizeof(*s));
    const wide most = (wide)2 << covered->shift;
    const wide before = next64() % most;
    const wide behind = next64() % most;
    s->base = covered->base < before ? 0 : covered->base - before;
    s->end = covered->end + behind > TOP ? TOP : covered->end + behind;
    if (s->end - s->base == TOP) {
        s->base += 1; /* a length has 64 bits */
        if (s->base > covered->base) {
            s->base = 0;
            s->end = covered->end;
        }
    }
    s->shift = next8() % 64;
    while ((s->end - s->base - 1) >> s->shift >= MAX_BITS) {
        s->shift++;
    }
    s->nbits = (unsigned)((s->end - s->base - 1) >> s->shift) + 1;
    take_memory(s);
}

void subject_close(struct subject *s)
{
    iova_bitmap_free(s->bitmap);
    REQUIRE(s->held == 0);
    ASAN_UNPOISON_MEMORY_REGION(s->memory, s->size);
    REQUIRE(memcmp(s->memory, s->expected, s->size) == 0);
    free(s->memory);
    free(s->expected);
}

UNWATCHED static bool same_memory(const struct subject *s)
{
    for (size_t i = 0; i < s->size; i++) {
        if (s->memory[i] != s->expected[i]) {
            return false;
        }
    }
    return true;
}

/* The present window is one that the definition allows. */
static void check_window(const struct subject *s)
{
    const struct iova_bitmap_window *w = iova_bitmap_present_window(s->bitmap);
    const size_t at = s->offset + (size_t)w->base_index;

    REQUIRE(w->base_index < s->nbytes && w->pgoff == at % PAGE);
    REQUIRE(w->npages <= iova_bitmap_window_pages(s->bitmap));
    size_t nbytes = (size_t)w->npages * PAGE - at % PAGE;
    nbytes = nbytes < s->nbytes - w->base_index ? nbytes : s->nbytes - (size_t)w->base_index;
    REQUIRE(iova_bitmap_window_nbytes(s->bitmap, w) == nbytes);
    REQUIRE((at + nbytes - 1) / PAGE - at / PAGE + 1 == w->npages);
    const wide start = address_of(s, (unsigned)(w->base_index * 8));
    const wide end = start + ((wide)nbytes * 8 << s->shift);
    REQUIRE(w->iova == start && w->length == (end < s->end ? end : s->end) - start);
    for (size_t page = at / PAGE; s->pins && page < at / PAGE + w->npages; page++) {
        REQUIRE(s->users[page] > 0);
    }
}

void subject_check(const struct subject *s)
{
    const struct iova_bitmap_stats *stats = iova_bitmap_stats(s->bitmap);
    const struct iova_bitmap_window *w = iova_bitmap_present_window(s->bitmap);

    const char *broken = NULL;

    REQUIRE(same_memory(s));
    REQUIRE(iova_bitmap_validate(s->bitmap, true, &broken) == 0 && broken == NULL);
    REQUIRE(stats->pins - stats->unpins == (w->npages != 0));
    REQUIRE(stats->pinned_pages == w->npages && stats->peak_pinned_pages >= w->npages);
    REQUIRE(!s->pins || s->held == (w->npages != 0));
    if (w->npages != 0) {
        check_window(s);
    }
}

void put(struct subject *s, unsigned first, unsigned stop, bool dirty)
{
    for (unsigned bit = first; bit < stop; bit++) {
        uint8_t *byte = &s->expected[s->offset + bit / 8];
        *byte = (uint8_t)((*byte & ~(1u << bit % 8)) | (unsigned)dirty << bit % 8);
        s->dirty[bit] = dirty;
    }
}

unsigned count(const struct subject *s, unsigned first, unsigned stop, bool dirty)
{
    unsigned n = 0;

    for (unsigned bit = first; bit < stop; bit++) {
        n += s->dirty[bit] == dirty;
    }
    return n;
}

UNWATCHED unsigned subject_adopt(struct subject *s, const bool *may)
{
    unsigned n = 0;

    for (unsigned bit = 0; bit < s->nbits; bit++) {
        if (!s->dirty[bit] && (s->memory[s->offset + bit / 8] >> bit % 8 & 1)) {
            REQUIRE(may[bit]);
            put(s, bit, bit + 1, true);
            n++;
        }
    }
    return n;
}
