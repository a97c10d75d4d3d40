/*
 * system.c - the operating system of the fuzz harness: which pages of a bitmap's memory were never
 * populated. A page is a hole if the subject says so and it holds zeros; what a search has called a
 * hole must not be touched before the walk ends.
 */
#include <stdlib.h>

#include "core/pin/holes.h"
#include "fuzz.h"

struct iova_holes {
    const struct subject *subject;
    uintptr_t from; /* addresses ascend */
};

bool __wrap_iova_holes_shared(const void *address);
struct iova_holes *__wrap_iova_holes_open(const void *address);
void __wrap_iova_holes_close(struct iova_holes *holes);
bool __wrap_iova_holes_next(struct iova_holes *holes, uintptr_t address, uintptr_t end,
                            struct iova_extent *extent);

static struct {
    struct subject *const *subjects;
    size_t count;
} all;

void system_holes_in(struct subject *const subjects[], size_t count)
{
    static struct subject *copies[4];

    REQUIRE(count <= 4);
    for (size_t i = 0; i < count; i++) {
        copies[i] = subjects[i];
    }
    all.subjects = copies;
    all.count = count;
}

/* The subject that an address of a bitmap, or the one behind its last, belongs to. */
static const struct subject *subject_of(const void *address)
{
    for (size_t i = 0; i < all.count; i++) {
        const struct subject *s = all.subjects[i];
        const uintptr_t inside = (uintptr_t)address - (uintptr_t)s->memory;
        if (inside >= s->offset && inside <= s->offset + s->nbytes) {
            return s;
        }
    }
    fuzz_fail(__FILE__, __LINE__, "an address of a bitmap");
}

static size_t pages_of(const struct subject *s)
{
    return (s->offset + s->nbytes - 1) / PAGE + 1;
}

static bool is_hole(const struct subject *s, size_t page)
{
    return (s->absent >> page % 8 & 1) && subject_is_zero(s, page);
}

bool __wrap_iova_holes_shared(const void *address)
{
    return subject_of(address)->shared;
}

struct iova_holes *__wrap_iova_holes_open(const void *address)
{
    const struct subject *s = subject_of(address);

    REQUIRE(!s->pins);
    if (s->absent == 0) { /* a system that tells nothing */
        return NULL;
    }
    struct iova_holes *holes = malloc(sizeof(*holes));
    REQUIRE(holes != NULL);
    *holes = (struct iova_holes){s, (uintptr_t)address};
    return holes;
}

void __wrap_iova_holes_close(struct iova_holes *holes)
{
    for (size_t page = 0; holes != NULL && page < pages_of(holes->subject); page++) {
        subject_watch(holes->subject, page, true);
    }
    free(holes);
}

bool __wrap_iova_holes_next(struct iova_holes *holes, uintptr_t address, uintptr_t end,
                            struct iova_extent *extent)
{
    const struct subject *s = holes->subject;
    const uintptr_t memory = (uintptr_t)s->memory;
    size_t page = (address - memory) / PAGE;

    REQUIRE(holes->from <= address && address < end && end <= memory + s->offset + s->nbytes);
    holes->from = address;
    for (; page < pages_of(s) && memory + page * PAGE < end && is_hole(s, page); page++) {
        subject_watch(s, page, false);
    }
    if (page == pages_of(s) || memory + page * PAGE >= end) {
        return false;
    }
    extent->start = memory + page * PAGE;
    while (page < pages_of(s) && (extent->start == memory + page * PAGE || !is_hole(s, page))) {
        page++;
    }
    extent->end = memory + page * PAGE;
    return true;
}
