/*
 * limits.c - what the machine can do at most: nothing that answers a question is faster than these.
 *
 * Reading, writing and changing memory as fast as instructions allow, a call that does nothing, and
 * the system calls of a write tracker. Variants for wider registers are compiled by attributes and
 * chosen by limit_width(); `make bench` tries all that the CPU has and takes the fastest.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The cost of a call by ctypes, which is taken off the times of all C functions. */
uint64_t empty(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
    return a ^ b ^ c ^ d ^ e;
}

void write_all(uint8_t *to, size_t nbytes)
{
    memset(to, 0xff, nbytes);
}

/*
 * 0 in all words that are not 0, in the three ways that are the fastest one for some density: each
 * word for itself; lines of eight words; and all of them, whatever they hold.
 */
void clear_words(uint64_t *map, size_t nwords)
{
    for (size_t i = 0; i < nwords; i++) {
        if (map[i] != 0) {
            map[i] = 0;
        }
    }
}

void clear_lines(uint64_t *map, size_t nwords)
{
    for (size_t i = 0; i + 8 <= nwords; i += 8) {
        uint64_t *line = map + i;
        if ((line[0] | line[1] | line[2] | line[3] | line[4] | line[5] | line[6] | line[7]) != 0) {
            memset(line, 0, 64);
        }
    }
}

void clear_all(uint64_t *map, size_t nwords)
{
    memset(map, 0, nwords * 8);
}

/* Widest registers in bits that the functions below can use here. */
int limit_width(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) {
        return 512;
    }
    if (__builtin_cpu_supports("avx2")) {
        return 256;
    }
#endif
    return 64;
}

/*
 * One set of functions for each width. Eight independent loads in flight; `nbytes` is a multiple of
 * what one turn takes. The type is aligned to 8, so that the loads take any bitmap.
 */
#define LIMITS(width, attribute)                                                                   \
    typedef uint64_t vector##width                                                                 \
        __attribute__((vector_size((width) / 8), aligned(8), may_alias));                          \
                                                                                                   \
    attribute uint64_t read_##width(const uint8_t *from, size_t nbytes)                            \
    {                                                                                              \
        const vector##width *v = (const void *)from;                                               \
        vector##width a = {0}, b = {0}, c = {0}, d = {0}, e = {0}, f = {0}, g = {0}, h = {0};      \
        for (size_t i = 0; i < nbytes / sizeof(*v); i += 8) {                                      \
            a |= v[i], b |= v[i + 1], c |= v[i + 2], d |= v[i + 3];                                \
            e |= v[i + 4], f |= v[i + 5], g |= v[i + 6], h |= v[i + 7];                            \
        }                                                                                          \
        a |= b | c | d | e | f | g | h;                                                            \
        return a[0];                                                                               \
    }                                                                                              \
                                                                                                   \
    attribute uint64_t read_two_##width(const uint8_t *x, const uint8_t *y, size_t nbytes)         \
    {                                                                                              \
        const vector##width *v = (const void *)x;                                                  \
        const vector##width *w = (const void *)y;                                                  \
        vector##width a = {0}, b = {0}, c = {0}, d = {0};                                          \
        for (size_t i = 0; i < nbytes / sizeof(*v); i += 4) {                                      \
            a |= v[i] ^ w[i], b |= v[i + 1] ^ w[i + 1];                                            \
            c |= v[i + 2] ^ w[i + 2], d |= v[i + 3] ^ w[i + 3];                                    \
        }                                                                                          \
        a |= b | c | d;                                                                            \
        return a[0];                                                                               \
    }                                                                                              \
                                                                                                   \
    attribute void change_##width(uint8_t *to, const uint8_t *from, size_t nbytes)                 \
    {                                                                                              \
        vector##width *v = (void *)to;                                                             \
        const vector##width *w = (const void *)from;                                               \
        for (size_t i = 0; i < nbytes / sizeof(*v); i += 4) {                                      \
            v[i] |= w[i], v[i + 1] |= w[i + 1];                                                    \
            v[i + 2] |= w[i + 2], v[i + 3] |= w[i + 3];                                            \
        }                                                                                          \
    }

LIMITS(64, )
#if defined(__x86_64__)
LIMITS(256, __attribute__((target("avx2"))))
LIMITS(512, __attribute__((target("avx512f"))))
#endif

#ifdef __linux__
#include <sys/ioctl.h>

struct region {
    uint64_t start, end, categories;
};

struct scan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

/* Which pages were written, armed again: the calls that a collect makes, and nothing else. The
 * number of pages, or -1. */
int64_t scan_written(int pagemap, uint64_t start, uint64_t end, uint64_t page_size)
{
    struct region regions[512];
    int64_t found = 0;

    while (start < end) {
        struct scan scan = {
            .size = sizeof(scan),
            .flags = 3, /* arm what matches; refuse memory that is not armed asynchronously */
            .start = start,
            .end = end,
            .vec = (uint64_t)(uintptr_t)regions,
            .vec_len = 512,
            .category_mask = 2, /* written */
            .return_mask = 2,
        };
        int n = ioctl(pagemap, _IOWR('f', 16, struct scan), &scan);
        if (n < 0) {
            return -1;
        }
        for (int i = 0; i < n; i++) {
            found += (int64_t)((regions[i].end - regions[i].start) / page_size);
        }
        start = scan.walk_end;
    }
    return found;
}
#endif
