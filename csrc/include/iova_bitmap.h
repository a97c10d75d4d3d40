/*
 * iova_bitmap.h - the public C API of the dirty-page bitmap engine.
 *
 * An IOVA bitmap holds one bit for each page of a range of I/O virtual addresses, in the caller's
 * own memory. The memory is reached through windows: at most window_pages host pages of bitmap
 * that a pin backend has made present, and the IOVA range that those bytes stand for.
 *
 * Addresses and lengths are bytes of IOVA unless a name says otherwise. Bit n is bit n % 8 (LSB
 * first) of byte n / 8. Every function that can fail returns a negative errno and has then done
 * exactly what its report says.
 *
 * Threads. Any number of bitmaps, also of several processes, may stand over the same memory: no
 * mark is lost. On one bitmap, operations that take windows of their own may run at the same time.
 * Those that use the present window (set, clear, for_each_window, the present window itself,
 * release) may run beside them, but one at a time among themselves; free comes after all.
 *
 * This header and the files beside it know nothing of Python.
 */
#ifndef IOVA_BITMAP_H
#define IOVA_BITMAP_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct iova_bitmap;

/* What never changes after alloc. `last` is the last address of the range, so that a range that
 * ends at 2**64 can be told. */
struct iova_bitmap_geometry {
    uint64_t iova;
    uint64_t length;
    uint64_t last;
    uint64_t page_size;
    unsigned pgshift; /* log2(page_size) */
    uint64_t nbits;   /* pages; the last may be a part of one */
    uint64_t nbytes;  /* bytes of bitmap that are used */
};

/* The pinned part of the bitmap. npages is 0 where there is none. */
struct iova_bitmap_window {
    uint64_t iova;       /* first address it stands for */
    uint64_t length;     /* bytes of IOVA, cut at the end of the range */
    uint64_t base_index; /* its first byte of bitmap */
    uint64_t pgoff;      /* offset of that byte in its host page */
    uint64_t npages;     /* host pages of bitmap */
};

struct iova_bitmap_stats {
    uint64_t pins;              /* pin calls that delivered */
    uint64_t unpins;            /* unpin calls */
    uint64_t pinned_pages;      /* host pages pinned now */
    uint64_t peak_pinned_pages; /* the most that were ever pinned at once */
    uint64_t moves;             /* windows taken as the present one */
};

/*
 * What an operation did. `pages` is what it counted: pages dirty (count), or pages that were clean
 * before (set with IOVA_BITMAP_COUNT; where a pin failed, always). `iova` and `length` are the part
 * that was not done, where a pin failed or the operation was interrupted; otherwise length is 0.
 */
struct iova_bitmap_report {
    uint64_t pages;
    uint64_t iova;
    uint64_t length;
};

/* A range of addresses, or a run of pages, cut to the range that was asked for. */
struct iova_bitmap_range {
    uint64_t iova;
    uint64_t length;
};

enum iova_bitmap_flags {
    IOVA_BITMAP_CLIP = 1,       /* do the part of the range that is inside, instead of -ERANGE */
    IOVA_BITMAP_COUNT = 2,      /* set: count the pages that were clean before */
    IOVA_BITMAP_CLEAN = 4,      /* questions: ask for clean pages instead of dirty ones */
    IOVA_BITMAP_PARTIAL = 8,    /* ranges: as many as there are rows for, instead of -ENOSPC */
    IOVA_BITMAP_EXCLUSIVE = 16, /* nobody else marks this memory concurrently: plain stores do */
};

enum iova_bitmap_access {
    IOVA_BITMAP_READ,  /* the pages will be read only */
    IOVA_BITMAP_WRITE, /* the pages will be written */
};

/*
 * A pin backend. Addresses are multiples of the host's page size.
 *
 * pin    makes up to npages host pages present: the number delivered from the first on, 1 to
 *        npages, or a negative errno where not even the first could be had.
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
 * 0, -EINVAL for an unknown name, -ENOTSUP where this platform or kernel does not have it. */
int iova_bitmap_pin_backend(const char *name, const struct iova_bitmap_pin_ops **ops);

struct iova_bitmap_options {
    uint64_t window_pages;                 /* 0: host page size / sizeof(void *) */
    const struct iova_bitmap_pin_ops *pin; /* NULL: "none" */
    void *pin_context;                     /* handed to each call of pin */

    /*
     * Asked by a long operation, in the thread that runs it, about every 1 MiB of bitmap or 65536
     * rows: other than 0 ends the operation with -EINTR and a report as of a pin that failed. It
     * may use the bitmap, but not free it. NULL: operations run to their end.
     */
    int (*poll)(void *context);
    void *poll_context;
};

/*
 * Validates a geometry. -EINVAL: length 0, or a page size that is no power of two.
 * -EOVERFLOW: the range ends beyond 2**64.
 */
int iova_bitmap_geometry_init(struct iova_bitmap_geometry *geometry, uint64_t iova, uint64_t length,
                              uint64_t page_size);

/* Bytes of bitmap for `length` bytes of IOVA; 0 for length 0. page_size is a power of two. */
uint64_t iova_bitmap_nbytes(uint64_t length, uint64_t page_size);

/*
 * Makes a bitmap over `size` bytes at `data`, any byte address, which must outlive it. Pins nothing
 * and touches no byte. Errors of iova_bitmap_geometry_init, -ENOSPC where size is less than the
 * geometry's nbytes, -EFAULT where data is NULL, -ENOMEM.
 */
int iova_bitmap_alloc(uint64_t iova, uint64_t length, uint64_t page_size, void *data, uint64_t size,
                      const struct iova_bitmap_options *options, struct iova_bitmap **bitmap);

/* Releases the present window and the bitmap. NULL is allowed. The caller's memory stays. */
void iova_bitmap_free(struct iova_bitmap *bitmap);

/* Gives the present window back; the next operation takes a new one. */
void iova_bitmap_release(struct iova_bitmap *bitmap);

/* 1 where [iova, iova + length) has pages to work on, 0 where it has none; -ERANGE or -EOVERFLOW.
 */
int iova_bitmap_check_range(const struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                            unsigned flags);

/*
 * Marks (or clears) every page that [iova, iova + length) touches. Length 0 is a no-op. `report`
 * may be NULL. -ERANGE: not all inside and no IOVA_BITMAP_CLIP, nothing was done. -EOVERFLOW: the
 * range wraps 2**64. Any other error is the pin backend's; the report says what is left to do.
 */
int iova_bitmap_set(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                    struct iova_bitmap_report *report);
int iova_bitmap_clear(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                      struct iova_bitmap_report *report);

/*
 * Whole arrays in one call: marks (or clears) all rows, or the page of each address, in windows of
 * its own, each of which is taken once where pins cost anything. All rows are checked first: where
 * one is bad, *bad_row is its index and nothing was done. Errors as iova_bitmap_set, and -ENOMEM
 * with a report of length 0. After a backend's error the report says from which page on, in
 * ascending order, nothing was done. After -EINTR with the backend "none", which needs no order,
 * any rows may be done; of length 0, none.
 */
int iova_bitmap_set_ranges(struct iova_bitmap *bitmap, const struct iova_bitmap_range *ranges,
                           uint64_t count, unsigned flags, uint64_t *bad_row,
                           struct iova_bitmap_report *report);
int iova_bitmap_clear_ranges(struct iova_bitmap *bitmap, const struct iova_bitmap_range *ranges,
                             uint64_t count, unsigned flags, uint64_t *bad_row,
                             struct iova_bitmap_report *report);
int iova_bitmap_set_pages(struct iova_bitmap *bitmap, const uint64_t *pages, uint64_t count,
                          unsigned flags, uint64_t *bad_row, struct iova_bitmap_report *report);

/* Clears the whole bitmap through a window of its own. */
int iova_bitmap_reset(struct iova_bitmap *bitmap, struct iova_bitmap_report *report);

/* 1 where the page of `iova` is dirty, 0 where it is clean; -ERANGE or the backend's errno. */
int iova_bitmap_test(struct iova_bitmap *bitmap, uint64_t iova);

/* Counts the dirty pages that the range touches into report->pages. Errors as iova_bitmap_set. */
int iova_bitmap_count(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                      struct iova_bitmap_report *report);

/* Rows of an answer. Where `rows` is NULL they are allocated, and given back with
 * iova_bitmap_rows_free; else they are the caller's, `capacity` of them. */
struct iova_bitmap_ranges {
    struct iova_bitmap_range *rows;
    uint64_t capacity;
    uint64_t count;
};

/*
 * The dirty runs of the range, ascending and maximal, cut to it; with IOVA_BITMAP_CLEAN the clean
 * ones. Errors as iova_bitmap_set; -ENOMEM; -ENOSPC where the caller's rows are too few: count is
 * then the number needed. After any other error there is nothing to give back.
 */
int iova_bitmap_ranges(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                       struct iova_bitmap_ranges *ranges, struct iova_bitmap_report *report);
void iova_bitmap_rows_free(void *rows);

/*
 * The harvest of a migration round: the dirty runs, which are clean afterwards. Each word is taken
 * atomically, so that a concurrent mark is in this harvest or left for the next one. After an error
 * what was taken is marked again; only where that fails too, ranges holds it and is given back as
 * after success.
 */
int iova_bitmap_read_and_clear(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                               unsigned flags, struct iova_bitmap_ranges *ranges,
                               struct iova_bitmap_report *report);

/* The same, marked in another bitmap, whose range covers the one harvested (-ERANGE at the first
 * dirty page that it does not): report->pages of its pages for the first time. A page that is in
 * the range in part is marked whole, as it is cleared whole. After an error all is either there or
 * still here: the pages of this bitmap from report->iova on are here, though parts of the first may
 * be marked there too. */
int iova_bitmap_move_into(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                          unsigned flags, struct iova_bitmap *into,
                          struct iova_bitmap_report *report);

/* Marks the rows of a harvest again, for a caller that cannot deliver them: needs no memory, and is
 * not interrupted. Errors and report as of a pin that failed. */
int iova_bitmap_put_back(struct iova_bitmap *bitmap, const struct iova_bitmap_ranges *ranges,
                         struct iova_bitmap_report *report);

/* Counts the runs that iova_bitmap_ranges would give, into report->pages. */
int iova_bitmap_count_ranges(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                             unsigned flags, struct iova_bitmap_report *report);

/* The first address of each dirty page that the range touches: *count of them at *pages, given back
 * with iova_bitmap_rows_free. Errors as iova_bitmap_ranges. */
int iova_bitmap_pages(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                      uint64_t **pages, uint64_t *count, struct iova_bitmap_report *report);

/* The first dirty (with IOVA_BITMAP_CLEAN, clean) page that the range touches: 1 and its first
 * address in *found, 0 where there is none. Errors as iova_bitmap_set. */
int iova_bitmap_find(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                     uint64_t *found, struct iova_bitmap_report *report);

/* Dirty pages in each of nbins (>= 1) bins: bin i is bits i * nbits / nbins to
 * (i + 1) * nbits / nbins. */
int iova_bitmap_histogram(struct iova_bitmap *bitmap, uint64_t nbins, uint64_t *bins,
                          struct iova_bitmap_report *report);

/* Copies the content, nbytes bytes; the bits behind the last page are 0 in the copy. */
int iova_bitmap_read(struct iova_bitmap *bitmap, uint8_t *bytes, struct iova_bitmap_report *report);

/* One byte for each page, nbits of them: 1 where it is dirty, else 0. */
int iova_bitmap_to_mask(struct iova_bitmap *bitmap, uint8_t *mask,
                        struct iova_bitmap_report *report);

/*
 * Checks every invariant that can be checked: geometry, memory, window arithmetic, and the balance
 * of pins. 0, or -EILSEQ and the name of the one that is broken in *broken: a defect of the engine,
 * or somebody else wrote to its memory. While other operations are running, `quiet` is false, and
 * what they change is not looked at.
 */
int iova_bitmap_validate(const struct iova_bitmap *bitmap, bool quiet, const char **broken);

/* Operations on two bitmaps of the same geometry; SUB is a and not b. */
enum iova_bitmap_operation { IOVA_BITMAP_AND, IOVA_BITMAP_OR, IOVA_BITMAP_XOR, IOVA_BITMAP_SUB };

/* bitmap = bitmap OP other. Plain stores: nobody else may mark `bitmap` meanwhile. The report of an
 * error says from where on nothing was done, in whichever of the two the pin failed. */
int iova_bitmap_combine(struct iova_bitmap *bitmap, struct iova_bitmap *other,
                        enum iova_bitmap_operation operation, struct iova_bitmap_report *report);

/* Counts the dirty pages of bitmap OP other into report->pages, without building it. */
int iova_bitmap_count_combined(struct iova_bitmap *bitmap, struct iova_bitmap *other,
                               enum iova_bitmap_operation operation,
                               struct iova_bitmap_report *report);

/* In one pass: counts[0] pages dirty in bitmap, [1] in other, [2] in both. */
int iova_bitmap_count_both(struct iova_bitmap *bitmap, struct iova_bitmap *other,
                           uint64_t counts[3], struct iova_bitmap_report *report);

/* The runs that are dirty in bitmap OP other. As iova_bitmap_ranges with rows of its own. */
int iova_bitmap_ranges_combined(struct iova_bitmap *bitmap, struct iova_bitmap *other,
                                enum iova_bitmap_operation operation,
                                struct iova_bitmap_ranges *ranges,
                                struct iova_bitmap_report *report);

/* Marks each page here that a dirty page of `other` overlaps, whatever the geometries;
 * report->pages of them for the first time. */
int iova_bitmap_merge(struct iova_bitmap *bitmap, struct iova_bitmap *other, unsigned flags,
                      struct iova_bitmap_report *report);

/* 1 where both, which have the same geometry, hold the same content, else 0. */
int iova_bitmap_equal(struct iova_bitmap *a, struct iova_bitmap *b,
                      struct iova_bitmap_report *report);

/* Called with a range of the bitmap. A result other than 0 ends the walk and is its result. The
 * callback may use the bitmap, and walk it again, but not free it. */
typedef int (*iova_bitmap_fn_t)(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                                void *opaque);

/* Calls fn once with the whole range. */
int iova_bitmap_for_each(struct iova_bitmap *bitmap, void *opaque, iova_bitmap_fn_t fn);

/* Calls fn once for each window in ascending order; that window is the present one during the call,
 * and the last one stays. A backend's error ends the walk, *failed (may be NULL) says where. */
int iova_bitmap_for_each_window(struct iova_bitmap *bitmap, void *opaque, iova_bitmap_fn_t fn,
                                struct iova_bitmap_report *failed);

/* The window that an ascending walk takes at `base_index` when the pin delivers in full. Arithmetic
 * only. base_index is less than the geometry's nbytes. */
void iova_bitmap_window_at(const struct iova_bitmap *bitmap, uint64_t base_index,
                           struct iova_bitmap_window *window);

/* Bytes of bitmap that a window covers. */
uint64_t iova_bitmap_window_nbytes(const struct iova_bitmap *bitmap,
                                   const struct iova_bitmap_window *window);

const struct iova_bitmap_geometry *iova_bitmap_geometry(const struct iova_bitmap *bitmap);
/* The present window; its npages is 0 where none is taken. */
const struct iova_bitmap_window *iova_bitmap_present_window(const struct iova_bitmap *bitmap);
const struct iova_bitmap_stats *iova_bitmap_stats(const struct iova_bitmap *bitmap);
/* A copy, while other threads work: each number is that of some moment. */
struct iova_bitmap_stats iova_bitmap_stats_now(const struct iova_bitmap *bitmap);
uint64_t iova_bitmap_window_pages(const struct iova_bitmap *bitmap);

/* The host's page size in bytes. */
uint64_t iova_bitmap_host_page_size(void);

#ifdef __cplusplus
}
#endif

#endif
