/*
 * fuzz.h - what the fuzz harness shares: the input, which is read as numbers; a subject, which is a
 * bitmap and the slow and plain model of it (a bool for each page, addresses as 128-bit numbers);
 * and pins that answer what the input says.
 *
 * The host's pages have 64 bytes here, so that small bitmaps take many windows: the linker puts
 * this harness's iova_bitmap_host_page_size and iova_kernels in the place of the engine's
 * (fuzz.link), and its search for holes and write protection (system.c). Walks search for holes
 * after 100 bytes. Under AddressSanitizer, pages that are not pinned, and holes, are poisoned.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "iova_bitmap.h"

__extension__ typedef unsigned __int128 wide;

#define TOP ((wide)1 << 64) /* the end of the address space */

enum { PAGE = 64, MAX_BITS = 4096, MAX_PAGES = MAX_BITS / 8 / PAGE + 2, MAX_ROWS = 40 };

/* A condition that always holds; otherwise the input is a find. */
#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fuzz_fail(__FILE__, __LINE__, #condition);                                             \
        }                                                                                          \
    } while (0)

_Noreturn void fuzz_fail(const char *file, int line, const char *condition);

/* --- input: zeros follow behind its end -------------------------------------------------- */

uint8_t next8(void);
uint16_t next16(void);
uint64_t next64(void);
bool input_left(void);

/* --- a subject --------------------------------------------------------------------------- */

struct subject {
    struct iova_bitmap *bitmap;
    wide base;
    wide end; /* of the range */
    unsigned shift;
    unsigned nbits;
    bool dirty[MAX_BITS];

    uint8_t *memory;   /* host pages, of which the bitmap is a part */
    uint8_t *expected; /* what they should hold */
    size_t size;
    size_t offset; /* of the bitmap in the first page */
    size_t nbytes;
    unsigned users[MAX_PAGES]; /* pins of each page */
    unsigned held;             /* pins that were not given back */
    bool pins;                 /* false: the backend is "none" */
    bool touches;              /* it looks again at what is in the present window */
    bool shared;               /* the memory is a shared mapping */
    uint8_t absent;            /* pages that were never populated, if they are zeros; repeated */
};

/* A range of addresses and the pages in it, which the model computes. */
struct part {
    uint64_t iova;
    uint64_t length;
    wide start;
    wide end;
    unsigned first; /* pages [first, stop) */
    unsigned stop;
    int want; /* what the engine says if no pin fails: 1 where there is something to do */
};

/* Reads a geometry, memory and pins from the input. `like`: with the same geometry, or NULL. */
void subject_open(struct subject *s, const struct subject *like);
/* One that covers another, with any page size that its bits allow. */
void subject_open_cover(struct subject *s, const struct subject *covered);
/* Memory becomes what the model says, without an operation. */
void subject_put_memory(struct subject *s);
void subject_close(struct subject *s);

/* The inner loops that the engine uses from now on: one of those that this CPU has. */
void choose_kernels(unsigned which);

/* What is in the present window may be gone: a backend that touches is asked again before it is
 * used. */
void subject_forget(struct subject *s);

/* Makes the bitmap's bytes in a page usable or not. */
void subject_watch(const struct subject *s, size_t page, bool usable);

/* The bitmap's bytes in a page are zeros; they may be poisoned. */
bool subject_is_zero(const struct subject *s, size_t page);

/* Where holes are searched for. */
void system_holes_in(struct subject *const subjects[], size_t count);

/* Memory, pins, statistics and the present window are as the model says. */
void subject_check(const struct subject *s);

/* Pages that the memory says are dirty, and the model clean, become dirty: those for which `may` is
 * true. Returns how many. */
unsigned subject_adopt(struct subject *s, const bool *may);

/* Pages [first, stop) become dirty or clean. */
void put(struct subject *s, unsigned first, unsigned stop, bool dirty);
unsigned count(const struct subject *s, unsigned first, unsigned stop, bool dirty);
wide address_of(const struct subject *s, unsigned bit);
unsigned bit_of(const struct subject *s, wide address);

/* Reads a range from the input, mostly one that is inside. */
struct part next_part(const struct subject *s, unsigned flags);
/* All of it. */
struct part whole(const struct subject *s);
/* What is inside of a range. */
struct part part_of(const struct subject *s, uint64_t iova, uint64_t length, unsigned flags);

/* The rows are the runs of `dirty` pages in `bits`, cut to the part. `most`: only so many. */
void check_rows(const struct subject *s, const struct part *part, const bool *bits, bool dirty,
                const struct iova_bitmap_range *rows, uint64_t count, uint64_t most);

/* Runs of pages that are `dirty` in a part. */
unsigned count_runs(const struct part *part, const bool *bits, bool dirty);

/* --- faults: one of the pin calls of an operation may be short, fail or lie --------------------
 */

void fault_plan(void);  /* reads from the input what the next operation's pins do */
bool fault_seen(void);  /* a pin failed in this operation */
void fault_clear(void); /* from now on all pins deliver in full */

/* Checks a result that is only an error if a pin was, and what the report then says of the part.
 * Returns the first page that was not reached: part->stop where all were. */
unsigned check_result(const struct subject *s, const struct part *part, int rc, int want,
                      const struct iova_bitmap_report *report);

/* --- operations: each reads its arguments, does it, and checks ----------------------------------
 */

struct subjects {
    struct subject main;
    struct subject like;  /* the same geometry */
    struct subject cover; /* covers it */
};

void fuzz_mark(struct subject *s, unsigned which);
void fuzz_ask(struct subject *s, unsigned which);
void fuzz_pair(struct subjects *all, unsigned which);
void fuzz_track(struct subjects *all);
void fuzz_alloc(void);

enum { MARKS = 9, ASKS = 11, PAIRS = 8, TRACK = 244 /* and above */ };

#endif
