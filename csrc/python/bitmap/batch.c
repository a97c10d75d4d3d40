/*
 * batch.c - whole arrays in one call: set_ranges, clear_ranges, set_pages.
 */
#include "python/module/binding.h"

#include <errno.h>

typedef int (*ranges_op)(struct iova_bitmap *, const struct iova_bitmap_range *, uint64_t, unsigned,
                         uint64_t *, struct iova_bitmap_report *);

/* An IOVARangeError for a row, whose index it names. */
static void raise_row(struct ib_bitmap *self, int rc, const struct ib_items *items, int columns,
                      uint64_t row, const struct iova_bitmap_report *report)
{
    uint64_t iova = items->items[row * (unsigned)columns];
    uint64_t length = columns == 2 ? items->items[2 * row + 1] : 1;

    ib_raise(self->state, iova_bitmap_geometry(self->engine), rc, report, iova, length);
    ib_name_row(row);
}

/* Runs op on all rows; out of the interpreter where they are many. */
static int run(struct ib_bitmap *self, const struct ib_items *items, int columns, ranges_op op,
               unsigned flags)
{
    struct iova_bitmap_report report;
    uint64_t row = 0;
    int rc;

    if (items->count == 0) {
        return 0;
    }
    PyThreadState *thread = ib_bitmap_unlock(self, items->count * 8);
    if (columns == 2) {
        const struct iova_bitmap_range *ranges =
            (const struct iova_bitmap_range *)(const void *)items->items;
        rc = op(self->engine, ranges, items->count, flags, &row, &report);
    } else {
        rc = iova_bitmap_set_pages(self->engine, items->items, items->count, flags, &row, &report);
    }
    ib_bitmap_relock(thread);
    if (rc < 0 && report.length == 0 && (rc == -ERANGE || rc == -EOVERFLOW)) {
        raise_row(self, rc, items, columns, row, &report);
    } else if (rc < 0) {
        ib_raise(self->state, iova_bitmap_geometry(self->engine), rc, &report, 0, 0);
    }
    return rc;
}

static PyObject *on_rows(struct ib_bitmap *self, const struct ib_signature *signature,
                         PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, int columns,
                         ranges_op op)
{
    PyObject *parsed[2] = {NULL};
    struct ib_items items;

    if (ib_parse(signature, args, nargs, kwnames, parsed) < 0) {
        return NULL;
    }
    int clip = parsed[1] == NULL ? 0 : PyObject_IsTrue(parsed[1]);
    if (clip < 0 || ib_items_get(parsed[0], signature->names[0], columns, &items) < 0) {
        return NULL;
    }
    int rc = ib_bitmap_begin(self);
    if (rc == 0) {
        rc = run(self, &items, columns, op, clip ? IOVA_BITMAP_CLIP : 0);
        ib_bitmap_end(self);
    }
    ib_items_release(&items);
    if (rc < 0) {
        return NULL;
    }
    return ib_none();
}

static const char *const ranges_names[] = {"ranges", "clip"};

const char ib_doc_set_ranges[] =
    "set_ranges($self, /, ranges, *, clip=False)\n--\n\n"
    "Mark every page that a row touches: set() for a whole array, in one call.\n\n"
    "Parameters\n"
    "----------\n"
    "ranges : array of shape (n, 2) of integers, or a sequence of pairs\n"
    "    Rows (iova, length) in bytes of IOVA, in any order. Native uint64 is not copied.\n"
    "clip : bool\n    Mark the parts inside the bitmap instead of raising IOVARangeError.\n\n"
    "Raises\n"
    "------\n"
    "IOVARangeError\n    For the first row that is not all inside; nothing is marked.\n"
    "PinError\n    Pages from its iova on, in ascending order, were not marked.\n\n"
    "Each window is taken once where pins cost anything: rows are sorted by address first.\n";

IB_METHOD(set_ranges)
{
    static const struct ib_signature signature = {"set_ranges", 1, 1, 2, ranges_names};
    return on_rows(self, &signature, args, nargs, kwnames, 2, iova_bitmap_set_ranges);
}

const char ib_doc_clear_ranges[] =
    "clear_ranges($self, /, ranges, *, clip=False)\n--\n\n"
    "Mark every page that a row touches as clean. Parameters and errors are those of\n"
    "set_ranges().\n";

IB_METHOD(clear_ranges)
{
    static const struct ib_signature signature = {"clear_ranges", 1, 1, 2, ranges_names};
    return on_rows(self, &signature, args, nargs, kwnames, 2, iova_bitmap_clear_ranges);
}

const char ib_doc_set_pages[] = "set_pages($self, /, iovas)\n--\n\n"
                                "Mark the page of each address.\n\n"
                                "Parameters\n"
                                "----------\n"
                                "iovas : array of shape (n,) of integers, or a sequence\n"
                                "    Addresses in any order. Native uint64 is not copied.\n\n"
                                "Errors are those of set_ranges().\n";

IB_METHOD(set_pages)
{
    static const char *const names[] = {"iovas"};
    static const struct ib_signature signature = {"set_pages", 1, 1, 1, names};
    return on_rows(self, &signature, args, nargs, kwnames, 1, NULL);
}
