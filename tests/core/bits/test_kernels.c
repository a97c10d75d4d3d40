/*
 * test_kernels.c - the inner loops: the portable ones against a loop over bits, and every variant
 * that this CPU has against the portable ones, on the same random input.
 *
 * The input lies at any byte offset in a block of exactly its size (for the sanitizers), or flush
 * to an inaccessible page; output ends right before one, with exactly the room that is promised.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "area.h"
#include "core/bits/kernels.h"

enum { MOST_WORDS = 2000, PAGES_IN = 8, PAGES_OUT = 256, GUARDS = 32 };

static uint64_t state = 1;
static struct area in[2];
static struct area out;
static uint64_t wanted[64 * MOST_WORDS];

static uint64_t below(uint64_t limit)
{
    return (check_random(&state) >> 11) % limit;
}

/* --- input --------------------------------------------------------------------------------- */

/* Bits that are one with `density` of 256, in some of the input stretches of equal words. */
static void fill(uint8_t *bytes, size_t nwords, unsigned density, bool stretches)
{
    uint64_t left = 0;
    uint64_t same = 0;

    for (size_t i = 0; i < nwords; i++) {
        uint64_t word = 0;
        for (unsigned bit = 0; bit < 64; bit++) {
            word |= (uint64_t)(below(256) < density) << bit;
        }
        if (stretches && left == 0) {
            left = 1 + below(40);
            same = below(3);
        }
        if (left > 0) {
            left--;
            word = same == 0 ? 0 : same == 1 ? UINT64_MAX : word;
        }
        for (unsigned k = 0; k < 8; k++) {
            bytes[8 * i + k] = (uint8_t)(word >> (8 * k));
        }
    }
}

static unsigned bit_of(const uint8_t *bytes, uint64_t n)
{
    return bytes[n / 8] >> n % 8 & 1;
}

/* Where input of this size may lie. `block` is what must be freed, if anything. */
static uint8_t *place(size_t nwords, unsigned which, uint8_t **block)
{
    const size_t size = 8 * nwords;

    *block = NULL;
    switch (below(4)) {
    case 0: /* flush to the page behind */
        return in[which].bytes + in[which].size - size;
    case 1: /* flush to the page before */
        return in[which].bytes;
    default: {
        size_t offset = (size_t)below(64);
        *block = malloc(size + offset + (size + offset == 0));
        if (*block == NULL) {
            check_skip("no memory");
        }
        return *block + offset;
    }
    }
}

/* --- one input, all kernels ---------------------------------------------------------------- */

static size_t expect_edges(const uint8_t *words, size_t nwords, uint64_t position, uint64_t *carry)
{
    size_t n = 0;

    for (uint64_t bit = 0; bit < 64 * (uint64_t)nwords; bit++) {
        if (bit_of(words, bit) != *carry) {
            wanted[n++] = position + bit;
            *carry ^= 1;
        }
    }
    return n;
}

static size_t expect_ones(const uint8_t *words, size_t nwords, uint64_t position)
{
    size_t n = 0;

    for (uint64_t bit = 0; bit < 64 * (uint64_t)nwords; bit++) {
        if (bit_of(words, bit)) {
            wanted[n++] = position + bit;
        }
    }
    return n;
}

/* Room for `n` numbers and the slack, right before an inaccessible page; guards before it. */
static uint64_t *room(size_t n)
{
    uint64_t *numbers = (uint64_t *)(void *)(out.bytes + out.size) - n - IOVA_EDGE_SLACK;

    for (unsigned i = 1; i <= GUARDS; i++) {
        numbers[-(int)i] = 0x5aa5a55a5aa5a55au ^ i;
    }
    return numbers;
}

static void check_room(const char *what, const uint64_t *numbers, size_t n, size_t got)
{
    CHECK(got == n, "%s: %zu, want %zu", what, got, n);
    CHECK(memcmp(numbers, wanted, n * sizeof(*numbers)) == 0, "%s: %zu numbers", what, n);
    for (unsigned i = 1; i <= GUARDS; i++) {
        CHECK(numbers[-(int)i] == (0x5aa5a55a5aa5a55au ^ i), "%s: guard %u", what, i);
    }
}

/* The numbers of the words that are not 0, and nothing written beyond the room there is. */
static void check_not_zero(const struct iova_kernels *kernels, const uint8_t *words, size_t nwords)
{
    enum { GUARD = 0xabcd };
    uint16_t list[MOST_WORDS + IOVA_LIST_SLACK + 1];
    size_t want = 0;

    list[nwords + IOVA_LIST_SLACK] = GUARD;
    size_t count = kernels->not_zero(words, nwords, list);
    for (size_t i = 0; i < nwords; i++) {
        bool some = false;
        for (size_t k = 0; k < 8; k++) {
            some = some || words[8 * i + k] != 0;
        }
        if (some) {
            CHECK(want < count, "%s: a word is missing", kernels->name);
            CHECK_EQ(list[want], i);
            want++;
        }
    }
    CHECK_EQ(count, want);
    CHECK_EQ(list[nwords + IOVA_LIST_SLACK], GUARD);
}

static void check_reading(const struct iova_kernels *kernels, const uint8_t *words, size_t nwords)
{
    const uint64_t position = below(2) ? below(1000) : below(UINT64_MAX >> 12) << 6;
    const uint64_t before = below(2);
    uint64_t carry = before;

    size_t n = expect_edges(words, nwords, position, &carry);
    uint64_t *numbers = room(n);
    uint64_t got = before;
    check_room("edges", numbers, n, kernels->positions(words, nwords, position, &got, numbers));
    CHECK(got == carry, "%s: carry %" PRIu64 " behind %zu words", kernels->name, got, nwords);

    got = before;
    CHECK_EQ(kernels->count_edges(words, nwords, &got), n);
    CHECK(got == carry, "%s: carry %" PRIu64 " behind %zu words", kernels->name, got, nwords);

    n = expect_ones(words, nwords, position);
    numbers = room(n);
    check_room("ones", numbers, n, kernels->positions(words, nwords, position, NULL, numbers));
    CHECK_EQ(kernels->count(words, nwords), n);

    for (unsigned one = 0; one < 2; one++) {
        size_t same = 0;
        while (same < 64 * nwords && bit_of(words, same) == one) {
            same++;
        }
        CHECK_EQ(kernels->uniform(words, nwords, one ? UINT64_MAX : 0), same / 64);
    }
    check_not_zero(kernels, words, nwords);
}

static unsigned combined(unsigned operation, unsigned a, unsigned b)
{
    switch (operation) {
    case IOVA_BITMAP_AND:
        return a & b;
    case IOVA_BITMAP_OR:
        return a | b;
    case IOVA_BITMAP_XOR:
        return a ^ b;
    default:
        return a & (b ^ 1);
    }
}

/* The bits of a OP b in the place of a, and nothing written beside them. */
static void check_combine(const struct iova_kernels *kernels, const uint8_t *a, const uint8_t *b,
                          size_t nwords, unsigned operation)
{
    static uint8_t all[8 * MOST_WORDS + 2 * GUARDS];
    uint8_t *const to = all + GUARDS - below(8);

    memset(all, 0xa5, sizeof(all));
    memcpy(to, a, 8 * nwords);
    kernels->combine(operation, to, b, nwords);
    for (uint64_t bit = 0; bit < 64 * (uint64_t)nwords; bit++) {
        CHECK(bit_of(to, bit) == combined(operation, bit_of(a, bit), bit_of(b, bit)),
              "%s: bit %" PRIu64 " of %zu words", kernels->name, bit, nwords);
    }
    CHECK(to[-1] == 0xa5 && to[8 * nwords] == 0xa5, "%s: beside %zu words", kernels->name, nwords);
}

static void check_two(const struct iova_kernels *kernels, const uint8_t *a, const uint8_t *b,
                      size_t nwords)
{
    uint64_t counts[3] = {1000, 2000, 3000};
    uint64_t want[3] = {1000, 2000, 3000};

    for (unsigned operation = 0; operation <= IOVA_BITMAP_SUB; operation++) {
        uint64_t ones = 0;
        for (uint64_t bit = 0; bit < 64 * (uint64_t)nwords; bit++) {
            ones += combined(operation, bit_of(a, bit), bit_of(b, bit));
        }
        CHECK_EQ(kernels->count_combined(operation, a, b, nwords), ones);
        check_combine(kernels, a, b, nwords, operation);
    }
    kernels->count_both(a, b, nwords, counts);
    for (uint64_t bit = 0; bit < 64 * (uint64_t)nwords; bit++) {
        want[0] += bit_of(a, bit);
        want[1] += bit_of(b, bit);
        want[2] += bit_of(a, bit) & bit_of(b, bit);
    }
    for (unsigned i = 0; i < 3; i++) {
        CHECK(counts[i] == want[i], "%s: counts[%u] of %zu words", kernels->name, i, nwords);
    }
}

/* A byte for each bit, with guards around; then flush to an inaccessible page on either side. */
static void check_expand(const struct iova_kernels *kernels, const uint8_t *words, size_t nwords)
{
    static uint8_t mask[64 * MOST_WORDS + 64 + 2 * GUARDS];
    const size_t offset = GUARDS + (size_t)below(64);
    const size_t nbits = 64 * nwords;

    memset(mask, 0xa5, sizeof(mask));
    kernels->expand(words, nwords, mask + offset);
    for (size_t i = 0; i < sizeof(mask); i++) {
        const bool inside = i >= offset && i < offset + nbits;
        CHECK(mask[i] == (inside ? bit_of(words, i - offset) : 0xa5), "%s: byte %zu of %zu words",
              kernels->name, i, nwords);
    }
    if (nbits <= out.size) {
        kernels->expand(words, nwords, out.bytes);
        CHECK(memcmp(out.bytes, mask + offset, nbits) == 0, "%s: %zu", kernels->name, nwords);
        kernels->expand(words, nwords, out.bytes + out.size - nbits);
        CHECK(memcmp(out.bytes + out.size - nbits, mask + offset, nbits) == 0, "%s: %zu",
              kernels->name, nwords);
    }
}

static void check_to_rows(const struct iova_kernels *kernels, size_t npairs)
{
    uint64_t *pairs = room(0) + IOVA_EDGE_SLACK - 2 * npairs;
    const unsigned pgshift = (unsigned)below(50);
    const uint64_t base = check_random(&state) >> 3;

    for (unsigned i = 1; i <= GUARDS; i++) {
        pairs[-(int)i] = i;
    }
    for (size_t i = 0; i < npairs; i++) {
        pairs[2 * i] = below(1u << 13);
        pairs[2 * i + 1] = pairs[2 * i] + 1 + below(1000);
        wanted[2 * i] = base + (pairs[2 * i] << pgshift);
        wanted[2 * i + 1] = (pairs[2 * i + 1] - pairs[2 * i]) << pgshift;
    }
    kernels->to_rows(pairs, npairs, base, pgshift);
    CHECK(memcmp(pairs, wanted, 2 * npairs * sizeof(*pairs)) == 0, "%s: %zu rows", kernels->name,
          npairs);
    for (unsigned i = 1; i <= GUARDS; i++) {
        CHECK(pairs[-(int)i] == i, "%s: guard %u of %zu rows", kernels->name, i, npairs);
    }
}

/* --- many inputs --------------------------------------------------------------------------- */

static void try_size(const struct iova_kernels *const *all, size_t n, size_t nwords)
{
    static const unsigned densities[] = {0, 0, 1, 3, 26, 128, 230, 253, 255, 256, 256};
    uint8_t *blocks[2];
    uint8_t *words[2];

    for (unsigned i = 0; i < 2; i++) {
        words[i] = place(nwords, i, &blocks[i]);
        fill(words[i], nwords, densities[below(sizeof(densities) / sizeof(densities[0]))],
             below(2) != 0);
    }
    const uint64_t seed = state;
    for (size_t i = 0; i < n; i++) {
        state = seed; /* all do the same */
        check_reading(all[i], words[0], nwords);
        check_two(all[i], words[0], words[1], nwords);
        check_expand(all[i], words[0], nwords);
        check_to_rows(all[i], nwords);
    }
    free(blocks[0]);
    free(blocks[1]);
}

/* A single one, or a single zero, anywhere: where each kernel's blocks begin and end. */
static void try_single(const struct iova_kernels *const *all, size_t n, size_t nwords)
{
    uint8_t *words = in[0].bytes + in[0].size - 8 * nwords;

    for (size_t at = 0; at < 64 * nwords; at += 1 + (size_t)below(64)) {
        for (unsigned one = 0; one < 2; one++) {
            memset(words, one ? 0 : 0xff, 8 * nwords);
            words[at / 8] = (uint8_t)(words[at / 8] ^ 1u << at % 8);
            for (size_t i = 0; i < n; i++) {
                check_reading(all[i], words, nwords);
            }
        }
    }
}

/* Whether Linux says that the CPU has all of these. Elsewhere nobody does, and an emulator shows
 * its host's. */
static bool cpu_has(const char *const *features, size_t n)
{
    static char flags[8192];
#if defined(__x86_64__) || defined(__i386__)
    FILE *info = fopen("/proc/cpuinfo", "r");
#else
    FILE *info = NULL;
#endif

    flags[0] = '\0';
    while (info != NULL && strncmp(flags, "flags", 5) != 0 &&
           fgets(flags, sizeof(flags), info) != NULL) {
    }
    if (info != NULL) {
        fclose(info);
    }
    for (size_t i = 0; i < n; i++) {
        const char *at = strstr(flags, features[i]);
        const size_t length = strlen(features[i]);
        while (at != NULL && (at[-1] != ' ' || (at[length] != ' ' && at[length] != '\n'))) {
            at = strstr(at + length, features[i]);
        }
        if (at == NULL) {
            return false;
        }
    }
    return n > 0;
}

/* What the CPU has is there, and nothing else; names are in the order of speed. */
static void test_variants(const struct iova_kernels *const *all, size_t n)
{
    static const char *const avx2[] = {"avx2", "bmi1", "bmi2", "popcnt"};
    static const char *const avx512[] = {
        "avx512f",    "avx512bw",     "avx512vl", "avx512_vpopcntdq",
        "avx512vbmi", "avx512_vbmi2", "bmi2"};
    const bool has[] = {cpu_has(avx2, 4), cpu_has(avx512, 7)};
    size_t at = 0;

    CHECK(n >= 1 && all[0] == &iova_kernels_portable, "%zu variants", n);
    CHECK(strcmp(all[0]->name, "portable") == 0, "%s", all[0]->name);
    for (unsigned i = 0; i < 2; i++) {
        if (has[i]) {
            const char *const name = i == 0 ? "avx2" : "avx512";
            at++;
            CHECK(at < n && strcmp(all[at]->name, name) == 0, "%s is not at %zu", name, at);
        }
    }
    CHECK(at + 1 == n || strcmp(all[n - 1]->name, "neon") == 0, "%zu variants, not %zu", n, at + 1);
}

/* Threads that choose at once may use a table before anybody could have filled it in: so it is in
 * memory that nobody can write, which the system finds out without a fault. */
static void test_constant(const struct iova_kernels *kernels)
{
#ifdef __linux__
    int fds[2];

    CHECK_EQ(pipe(fds), 0);
    CHECK_EQ(write(fds[1], kernels, 1), 1);
    CHECK(read(fds[0], (void *)(uintptr_t)kernels, 1) < 0 && errno == EFAULT, "%s can be written",
          kernels->name);
    close(fds[0]);
    close(fds[1]);
#else
    (void)kernels;
#endif
}

/* Valgrind is a CPU of its own, of which the system's list of features says nothing. */
static bool under_valgrind(void)
{
    const char *const preloaded = getenv("LD_PRELOAD");

    return preloaded != NULL && strstr(preloaded, "vgpreload") != NULL;
}

int main(void)
{
    const struct iova_kernels *all[4];
    const size_t n = iova_kernels_available(all);

    if (under_valgrind()) {
        printf("not looked at which variants there are: this is valgrind's CPU\n");
    } else {
        test_variants(all, n);
    }
    for (size_t i = 0; i < n; i++) {
        test_constant(all[i]);
    }
    in[0] = area_map(PAGES_IN);
    in[1] = area_map(PAGES_IN);
    out = area_map(PAGES_OUT + 1);
    for (size_t nwords = 0; nwords <= 70; nwords++) {
        for (unsigned i = 0; i < 12; i++) {
            try_size(all, n, nwords);
        }
    }
    for (unsigned i = 0; i < 60; i++) {
        try_size(all, n, 71 + (size_t)below(i % 4 ? 600 : MOST_WORDS - 71));
    }
    for (size_t nwords = 1; nwords <= 40; nwords += 3) {
        try_single(all, n, nwords);
    }
    area_unmap(&in[0]);
    area_unmap(&in[1]);
    area_unmap(&out);
    return check_result();
}
