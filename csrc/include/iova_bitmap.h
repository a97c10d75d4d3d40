/*
 * iova_bitmap.h - the public C API of the dirty-page bitmap engine.
 *
 * An IOVA bitmap holds one bit for each page of a range of I/O virtual addresses, in the caller's
 * own memory. The memory is reached through windows: at most window_pages host pages of bitmap
 * that a pin backend has made present, and the IOVA range that those bytes stand for.
 *
 * Addresses and lengths are bytes of IOVA unless a name says otherwise. Bit n is bit n % 8 (LSB
 * first) of byte n / 8. An operation works on every page that [iova, iova + length) touches; of
 * length 0, on none.
 *
 * The sections: words, the four verbs of Linux's iova_bitmap.h, make, mark, ask, harvest, combine,
 * walk, report. These rules hold for all of them, and are not repeated:
 *
 * Errors. A function that can fail returns a negative errno, and has then done exactly what its
 * report says. One that takes a range or rows fails with
 *
 *   -EINVAL: a flag that it does not take; nothing was done.
 *   -ERANGE: not all is inside the bitmap's range, and no IOVA_BITMAP_CLIP; nothing was done
 *     (iova_bitmap_move_into knows another reason).
 *   -EOVERFLOW: it wraps 2**64; nothing was done.
 *   -EINTR: options.poll ended the operation.
 *
 * and with any error of the pin backend. Further errors are named at each function.
 *
 * Flags. Each function takes the flags that are named at it; any other flag is -EINVAL.
 *
 * NULL. `report` (`failed` of a walk) and `bad_row` may be NULL everywhere: nobody asks. `rows` of
 * a struct iova_bitmap_ranges that is NULL means that the function allocates them. An array of no
 * members may be NULL. No other pointer may be, unless its function says so.
 *
 * Pages. report->pages is what a function counts, in the part that was done: pages, or runs of
 * them. Each function that counts says what. The others leave 0, except set, set_ranges and
 * set_pages, which count the pages that were clean before: with IOVA_BITMAP_COUNT, and also without
 * it if the pin backend failed. Otherwise their number means nothing.
 *
 * Threads. Any number of bitmaps, also of several processes, may stand over the same memory: no
 * mark is lost, unless somebody uses IOVA_BITMAP_EXCLUSIVE or iova_bitmap_combine. On one bitmap,
 * operations that take windows of their own may run concurrently. Those that use the present window
 * (set, clear, for_each_window, the present window itself, release) may run beside them, but one at
 * a time among themselves; free comes after all.
 *
 * This header needs C99 or C++11, and nothing of Python.
 */
#ifndef IOVA_BITMAP_H
#define IOVA_BITMAP_H

#include <stdbool.h>
#include <stdint.h>

/* The version of this header, and as a number that #if can compare: 0.10.3 is 1003. */
#define IOVA_BITMAP_VERSION_MAJOR 0
#define IOVA_BITMAP_VERSION_MINOR 9
#define IOVA_BITMAP_VERSION_PATCH 0
#define IOVA_BITMAP_VERSION                                                                        \
    (IOVA_BITMAP_VERSION_MAJOR * 10000 + IOVA_BITMAP_VERSION_MINOR * 100 +                         \
     IOVA_BITMAP_VERSION_PATCH)

#ifdef __cplusplus
extern "C" {
#endif

/* ---- words ---- */

struct iova_bitmap;
struct iova_bitmap_options;

/* A range of addresses, or a run of pages, cut to the range that was asked for. */
struct iova_bitmap_range {
    uint64_t iova;
    uint64_t length;
};

/*
 * What an operation did. `pages` is what it counted: see Pages above. `iova` and `length` are the
 * part that was not done, if an error ended the operation on its way; otherwise length is 0.
 */
struct iova_bitmap_report {
    uint64_t pages;
    uint64_t iova;
    uint64_t length;
};

enum iova_bitmap_flags {
    /* Does the part of the range that is inside, instead of -ERANGE. */
    IOVA_BITMAP_CLIP = 1,
    /* Counts the pages that were clean before into report->pages. */
    IOVA_BITMAP_COUNT = 2,
    /* Asks for clean pages instead of dirty ones. */
    IOVA_BITMAP_CLEAN = 4,
    /* Delivers as many rows as there is room for, instead of -ENOSPC. */
    IOVA_BITMAP_PARTIAL = 8,
    /* The caller promises that nobody else marks this memory concurrently, so plain stores may be
     * used instead of atomic ones. Results, reports and pins are the same. If somebody marks it all
     * the same, marks may be lost. */
    IOVA_BITMAP_EXCLUSIVE = 16,
};

/* Called with a range of the bitmap. A result other than 0 ends the walk and is its result. The
 * callback may use the bitmap, and walk it again, but not free it. */
typedef int (*iova_bitmap_fn_t)(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                                void *opaque);

/* ---- the four verbs of Linux ---- */

/*
 * Makes a bitmap over `size` bytes at `data`, any byte address, which must outlive it. Pins nothing
 * and touches no byte. `options` may be NULL: the defaults. Errors of iova_bitmap_geometry_init;
 * -EFAULT if data is NULL, -ENOSPC if size is less than the geometry's nbytes, -EINVAL if
 * data + size is no address, -ENOMEM.
 */
int iova_bitmap_alloc(uint64_t iova, uint64_t length, uint64_t page_size, void *data, uint64_t size,
                      const struct iova_bitmap_options *options, struct iova_bitmap **bitmap);

/* Calls fn once with the whole range. */
int iova_bitmap_for_each(struct iova_bitmap *bitmap, void *opaque, iova_bitmap_fn_t fn);

/* Marks the pages of the range. Flags: CLIP, COUNT, EXCLUSIVE. */
int iova_bitmap_set(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                    struct iova_bitmap_report *report);

/* Releases the present window and the bitmap, which may be NULL. The caller's memory stays. */
void iova_bitmap_free(struct iova_bitmap *bitmap);

/* ---- make ---- */

/* What never changes after alloc. `last` is the last address of the range, because the end of one
 * that ends at 2**64 does not fit 64 bits. */
struct iova_bitmap_geometry {
    uint64_t iova;
    uint64_t length;
    uint64_t last;
    uint64_t page_size;
    unsigned pgshift; /* log2(page_size) */
    uint64_t nbits;   /* pages; the last may be a part of one */
    uint64_t nbytes;  /* bytes of bitmap that are used */
};

/*
 * Validates a geometry. -EINVAL: length 0, or a page size that is not a power of two.
 * -EOVERFLOW: the range ends beyond 2**64.
 */
int iova_bitmap_geometry_init(struct iova_bitmap_geometry *geometry, uint64_t iova, uint64_t length,
                              uint64_t page_size);

/* Bytes of bitmap for `length` bytes of IOVA; 0 for length 0. page_size is a power of two. */
uint64_t iova_bitmap_nbytes(uint64_t length, uint64_t page_size);

/* The host's page size in bytes. */
uint64_t iova_bitmap_host_page_size(void);

enum iova_bitmap_access {
    IOVA_BITMAP_READ,  /* the pages will be read only */
    IOVA_BITMAP_WRITE, /* the pages will be written */
};

/*
 * A pin backend. Addresses are multiples of the host's page size.
 *
 * pin    makes up to npages host pages present: the number delivered from the first on, 1 to
 *        npages, or a negative errno if not even the first is available.
 * unpin  gives back what one pin delivered.
 * touch  may be NULL. Makes pages inside a window that was taken earlier present again (a file may
 *        have been truncated since); same result as pin, nothing to give back.
 */
struct iova_bitmap_pin_ops {
    int64_t (*pin)(void *context, uintptr_t address, uint64_t npages,
                   enum iova_bitmap_access access);
    void (*unpin)(void *context, uintptr_t address, uint64_t npages);
    int64_t (*touch)(void *context, uintptr_t address, uint64_t npages,
                     enum iova_bitmap_access access);
};

/* The built-in backends: "none" (translation only), "populate" (MADV_POPULATE_WRITE), "mlock".
 * -EINVAL for an unknown name, -ENOTSUP if this platform or kernel does not have it. */
int iova_bitmap_pin_backend(const char *name, const struct iova_bitmap_pin_ops **ops);

/* All 0 are the defaults. */
struct iova_bitmap_options {
    uint64_t window_pages;                 /* 0: host page size / sizeof(void *) */
    const struct iova_bitmap_pin_ops *pin; /* NULL: "none" */
    void *pin_context;                     /* handed to each call of pin */

    /*
     * Asked by a long operation, in the thread that runs it, about every 1 MiB of bitmap or 65536
     * rows: a result other than 0 ends the operation with -EINTR and a report as of a pin that
     * failed. It may use the bitmap, but not free it. NULL: operations run to their end.
     */
    int (*poll)(void *context);
    void *poll_context;
};

/* Gives the present window back; the next operation takes a new one. */
void iova_bitmap_release(struct iova_bitmap *bitmap);

/* ---- mark ---- */

/* Marks the pages of the range clean. Flags: CLIP, EXCLUSIVE. */
int iova_bitmap_clear(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                      struct iova_bitmap_report *report);

/* Clears the whole bitmap through a window of its own. */
int iova_bitmap_reset(struct iova_bitmap *bitmap, struct iova_bitmap_report *report);

/*
 * Whole arrays in one call: mark (or clear) `count` rows, or the page of each address, through
 * windows of their own. Flags: CLIP, EXCLUSIVE; set_ranges and set_pages also COUNT.
 *
 * All rows are checked first: if one is bad, *bad_row is its index and nothing was done. Also
 * -ENOMEM, with a report of length 0: nothing was done.
 *
 * With the backend "none", rows are done in the order given, in one window for all; after -EINTR
 * any of them may be done, or none if the report's length is 0. With any other backend they are
 * done in ascending order, so that each window is taken once; after an error the report says from
 * which page on nothing was done.
 */
int iova_bitmap_set_ranges(struct iova_bitmap *bitmap, const struct iova_bitmap_range *ranges,
                           uint64_t count, unsigned flags, uint64_t *bad_row,
                           struct iova_bitmap_report *report);
int iova_bitmap_clear_ranges(struct iova_bitmap *bitmap, const struct iova_bitmap_range *ranges,
                             uint64_t count, unsigned flags, uint64_t *bad_row,
                             struct iova_bitmap_report *report);
int iova_bitmap_set_pages(struct iova_bitmap *bitmap, const uint64_t *pages, uint64_t count,
                          unsigned flags, uint64_t *bad_row, struct iova_bitmap_report *report);

/* ---- ask ---- */

/* 1 if [iova, iova + length) has pages to work on, 0 if it has none. Reads no bitmap. Flags: CLIP.
 */
int iova_bitmap_check_range(const struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                            unsigned flags);

/* 1 if the page of `iova` is dirty, 0 if it is clean. */
int iova_bitmap_test(struct iova_bitmap *bitmap, uint64_t iova);

/* Counts the dirty pages into report->pages. Flags: CLIP, CLEAN. */
int iova_bitmap_count(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                      struct iova_bitmap_report *report);

/* Counts the runs that iova_bitmap_ranges would give, into report->pages. Flags: CLIP, CLEAN. */
int iova_bitmap_count_ranges(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                             unsigned flags, struct iova_bitmap_report *report);

/* Finds the first dirty page: 1 and its first address in *found, or 0 if there is none. Flags:
 * CLIP, CLEAN. */
int iova_bitmap_find(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                     uint64_t *found, struct iova_bitmap_report *report);

/*
 * Rows of an answer. It must be initialised, since `rows` is read: {0} for rows that the function
 * allocates, which you give back with iova_bitmap_rows_free; else your array and its `capacity`.
 * `count` is the function's.
 */
struct iova_bitmap_ranges {
    struct iova_bitmap_range *rows;
    uint64_t capacity;
    uint64_t count;
};

/*
 * The dirty runs of the range, ascending and maximal, cut to it. Flags: CLIP, CLEAN, PARTIAL. Also
 * -ENOMEM; -ENOSPC if the caller's rows are too few: count is then the number needed. After any
 * other error there is nothing to give back.
 */
int iova_bitmap_ranges(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                       struct iova_bitmap_ranges *ranges, struct iova_bitmap_report *report);

/* Frees rows or pages that a function allocated; NULL is allowed. */
void iova_bitmap_rows_free(void *rows);

/* The first address of each dirty page: *count of them at *pages, given back with
 * iova_bitmap_rows_free. Flags: CLIP. Also -ENOMEM; after an error there is nothing to give back.
 */
int iova_bitmap_pages(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                      uint64_t **pages, uint64_t *count, struct iova_bitmap_report *report);

/* Dirty pages in each of nbins (>= 1) bins: bin i is bits i * nbits / nbins to
 * (i + 1) * nbits / nbins. */
int iova_bitmap_histogram(struct iova_bitmap *bitmap, uint64_t nbins, uint64_t *bins,
                          struct iova_bitmap_report *report);

/* Copies the content, nbytes bytes; the bits behind the last page are 0 in the copy. */
int iova_bitmap_read(struct iova_bitmap *bitmap, uint8_t *bytes, struct iova_bitmap_report *report);

/* One byte for each page, nbits of them: 1 if it is dirty, else 0. */
int iova_bitmap_to_mask(struct iova_bitmap *bitmap, uint8_t *mask,
                        struct iova_bitmap_report *report);

/* ---- harvest ---- */

/*
 * The harvest of a migration round: the dirty runs, which are clean afterwards. Flags: CLIP,
 * EXCLUSIVE. Each word is taken atomically, so that a concurrent mark is in this harvest or left
 * for the next one.
 *
 * Into your own rows it takes as many runs as fit. If that is not all it returns -ENOSPC: `ranges`
 * has `count` rows as after success, what was not delivered is still marked, and the report's iova
 * and length are the rest of the range, to go on with.
 *
 * Also -ENOMEM. After any error but -ENOSPC all that was taken is marked again, and there is
 * nothing to give back; only if marking it again fails too, `ranges` holds it as after success.
 */
int iova_bitmap_read_and_clear(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                               unsigned flags, struct iova_bitmap_ranges *ranges,
                               struct iova_bitmap_report *report);

/* Marks the rows of a harvest again, for a caller that cannot deliver them: needs no memory, and is
 * not interrupted. */
int iova_bitmap_put_back(struct iova_bitmap *bitmap, const struct iova_bitmap_ranges *ranges,
                         struct iova_bitmap_report *report);

/*
 * A harvest whose pages are marked in another bitmap; report->pages is how many of its pages were
 * clean. Flags: CLIP, EXCLUSIVE. A page that is in the range in part is marked whole, as it is
 * cleared whole. After an error every page is either there or still here: those from report->iova
 * on are here, though parts of the first may be marked there too. That holds for -ERANGE as well:
 * if report->length is 0 the range is not inside and nothing was done, else `into` does not cover
 * the dirty pages that begin at report->iova, and those before them are there.
 */
int iova_bitmap_move_into(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                          unsigned flags, struct iova_bitmap *into,
                          struct iova_bitmap_report *report);

/* ---- combine ---- */

/* Marks each page here that a dirty page of `other` overlaps, whatever the geometries, and leaves
 * out what lies outside of this one's range; report->pages is how many were clean. Flags:
 * EXCLUSIVE; CLIP is implied. */
int iova_bitmap_merge(struct iova_bitmap *bitmap, struct iova_bitmap *other, unsigned flags,
                      struct iova_bitmap_report *report);

/* Operations on two bitmaps, which must have the same geometry; SUB is a and not b. If a pin fails
 * in either, the report says from where on nothing was done. */
enum iova_bitmap_operation { IOVA_BITMAP_AND, IOVA_BITMAP_OR, IOVA_BITMAP_XOR, IOVA_BITMAP_SUB };

/* bitmap = bitmap OP other. Plain stores: nobody else may mark `bitmap` concurrently. */
int iova_bitmap_combine(struct iova_bitmap *bitmap, struct iova_bitmap *other,
                        enum iova_bitmap_operation operation, struct iova_bitmap_report *report);

/* Counts the dirty pages of bitmap OP other into report->pages, without building it. */
int iova_bitmap_count_combined(struct iova_bitmap *bitmap, struct iova_bitmap *other,
                               enum iova_bitmap_operation operation,
                               struct iova_bitmap_report *report);

/* In one pass: counts[0] pages dirty in bitmap, [1] in other, [2] in both. */
int iova_bitmap_count_both(struct iova_bitmap *bitmap, struct iova_bitmap *other,
                           uint64_t counts[3], struct iova_bitmap_report *report);

/* The runs that are dirty in bitmap OP other, in rows that it always allocates: what `ranges` had
 * before is not read. Also -ENOMEM. */
int iova_bitmap_ranges_combined(struct iova_bitmap *bitmap, struct iova_bitmap *other,
                                enum iova_bitmap_operation operation,
                                struct iova_bitmap_ranges *ranges,
                                struct iova_bitmap_report *report);

/* 1 if both have the same content, else 0. */
int iova_bitmap_equal(struct iova_bitmap *a, struct iova_bitmap *b,
                      struct iova_bitmap_report *report);

/* ---- walk ---- */

/* The pinned part of the bitmap. npages is 0 if there is none. */
struct iova_bitmap_window {
    uint64_t iova;       /* first address it stands for */
    uint64_t length;     /* bytes of IOVA, cut at the end of the range */
    uint64_t base_index; /* its first byte of bitmap */
    uint64_t pgoff;      /* offset of that byte in its host page */
    uint64_t npages;     /* host pages of bitmap */
};

/* Calls fn once for each window in ascending order; that window is the present one during the call,
 * and the last one stays. A backend's error ends the walk, and *failed says where. */
int iova_bitmap_for_each_window(struct iova_bitmap *bitmap, void *opaque, iova_bitmap_fn_t fn,
                                struct iova_bitmap_report *failed);

/* The present window; its npages is 0 if none is taken. */
const struct iova_bitmap_window *iova_bitmap_present_window(const struct iova_bitmap *bitmap);

/* The window that an ascending walk takes at `base_index`, which is less than the geometry's
 * nbytes, if the pin delivers in full. Arithmetic only. */
void iova_bitmap_window_at(const struct iova_bitmap *bitmap, uint64_t base_index,
                           struct iova_bitmap_window *window);

/* Bytes of bitmap that a window covers. */
uint64_t iova_bitmap_window_nbytes(const struct iova_bitmap *bitmap,
                                   const struct iova_bitmap_window *window);

/* ---- report ---- */

struct iova_bitmap_stats {
    uint64_t pins;              /* pin calls that delivered */
    uint64_t unpins;            /* unpin calls */
    uint64_t pinned_pages;      /* host pages pinned now */
    uint64_t peak_pinned_pages; /* the most that were ever pinned at once */
    uint64_t moves;             /* windows taken as the present one */
};

/* As alloc made it. */
const struct iova_bitmap_geometry *iova_bitmap_geometry(const struct iova_bitmap *bitmap);
uint64_t iova_bitmap_window_pages(const struct iova_bitmap *bitmap);

/* The statistics themselves, to read while no operation runs. */
const struct iova_bitmap_stats *iova_bitmap_stats(const struct iova_bitmap *bitmap);

/* A copy, also while other threads work: each number is that of some moment. */
struct iova_bitmap_stats iova_bitmap_stats_now(const struct iova_bitmap *bitmap);

/*
 * Checks every invariant that can be checked: geometry, memory, window arithmetic, and the balance
 * of pins. 0, or -EILSEQ and the name of the one that is broken in *broken: a defect of the engine,
 * or somebody else wrote to its memory. `quiet` is false if other operations are running, and then
 * what they change is not checked.
 */
int iova_bitmap_validate(const struct iova_bitmap *bitmap, bool quiet, const char **broken);

#ifdef __cplusplus
}
#endif

#endif
