/*
 * check.h - what the C test programs share: checks that count and go on, and the way out.
 *
 * A program ends with `return check_result();`: 0 where all checks held, 1 where one did not, 77
 * (with check_skip) where the machine cannot run it.
 */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static int check_failures;

/* A condition; the values follow as printf arguments: CHECK(n > 0, "n=%d", n). */
#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            check_failures++;                                                                      \
            printf("%s:%d: %s: ", __FILE__, __LINE__, #condition);                                 \
            printf(__VA_ARGS__);                                                                   \
            printf("\n");                                                                          \
        }                                                                                          \
    } while (0)

/* Two integers that must be equal. Both are shown in decimal and in hexadecimal. */
#define CHECK_EQ(got, want)                                                                        \
    do {                                                                                           \
        const uint64_t check_got = (uint64_t)(got);                                                \
        const uint64_t check_want = (uint64_t)(want);                                              \
        CHECK(check_got == check_want,                                                             \
              "got %" PRId64 " (0x%" PRIx64 "), want %" PRId64 " (0x%" PRIx64 ")",                 \
              (int64_t)check_got, check_got, (int64_t)check_want, check_want);                     \
    } while (0)

static inline int check_result(void)
{
    if (check_failures > 0) {
        printf("%d checks failed\n", check_failures);
    }
    return check_failures > 0;
}

static inline void check_skip(const char *reason)
{
    printf("skipped: %s\n", reason);
    exit(77);
}

/* A small generator, the same on every platform. `state` starts at any number but 0. */
static inline uint64_t check_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
