/*
 * batch.c - whole arrays in one call: set_ranges, clear_ranges, set_pages.
 */
#include "python/bitmap/bitmap.h"

#include <errno.h>

typedef int (*ranges_op)(struct iova_bitmap *, const struct iova_bitmap_range *, uint64_t, unsigned,
                         uint64_t *, struct iova_bitmap_report *);

/* Of a batch, `columns` to a row. */
static int call_engine(struct ib_bitmap *self, const struct ib_items *items, int columns,
                       ranges_op op, unsigned flags, uint64_t *bad_row,
                       struct iova_bitmap_report *report)
{
    if (columns == 1) {
        return iova_bitmap_set_pages(self->engine, items->items, items->count, flags, bad_row,
                                     report);
    }
    return op(self->engine, (const struct iova_bitmap_range *)(const void *)items->items,
              items->count, flags, bad_row, report);
}

/* Runs op on all rows; out of the interpreter where they are many. */
static int run(struct ib_bitmap *self, const struct ib_items *items, int columns, ranges_op op,
               unsigned flags)
{
    struct ib_call call = {0};
    uint64_t row = 0;

    if (ib_call_begin(&call, self, NULL, items->count * 8) < 0) {
        return -1;
    }
    int rc =
        items->count == 0 ? 0 : call_engine(self, items, columns, op, flags, &row, &call.report);
    bool bad_row = call.report.length == 0 && (rc == -ERANGE || rc == -EOVERFLOW);
    if (bad_row) {
        call.iova = items->items[row * (unsigned)columns];
        call.length = columns == 2 ? items->items[2 * row + 1] : 1;
    }
    rc = ib_call_end(&call, rc);
    if (bad_row) {
        ib_name_row(row);
    }
    return rc;
}

static PyObject *on_rows(struct ib_bitmap *self, const struct ib_signature *signature,
                         PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, int columns,
                         ranges_op op)
{
    PyObject *parsed[3] = {NULL};
    struct ib_items items;
    unsigned flags = 0;

    if (ib_parse(signature, args, nargs, kwnames, parsed) < 0 ||
        (columns == 2 && ib_flag(parsed[1], IOVA_BITMAP_CLIP, &flags) < 0) ||
        ib_flag(parsed[columns], IOVA_BITMAP_EXCLUSIVE, &flags) < 0 ||
        ib_items_get(parsed[0], signature->names[0], columns, &items) < 0) {
        return NULL;
    }
    int rc = run(self, &items, columns, op, flags);
    ib_items_release(&items);
    return rc < 0 ? NULL : ib_none();
}

static const char *const ranges_names[] = {"ranges", "clip", "exclusive"};

const char ib_doc_set_ranges[] =
    "set_ranges($self, /, ranges, *, clip=False, exclusive=False)\n--\n\n"
    "Mark every page that a row touches: set() for a whole array, in one call.\n\n"
    "Parameters\n"
    "----------\n"
    "ranges : array of shape (n, 2) of integers, or a sequence of pairs\n"
    "    Rows (iova, length) in bytes of IOVA, in any order. Native uint64 is not copied.\n"
    "clip : bool\n    Mark the parts inside the bitmap instead of raising IOVARangeError.\n"
    "exclusive : bool\n"
    "    You say that nobody else marks this memory concurrently: plain stores may be used.\n\n"
    "Raises\n"
    "------\n"
    "IOVARangeError\n    For the first row that is not all inside; nothing is marked.\n"
    "PinError\n    Pages from its iova on, in ascending order, were not marked.\n\n"
    "Each window is taken once where pins cost anything: rows are sorted by address first.\n";

IB_METHOD(set_ranges)
{
    static const struct ib_signature signature = {"set_ranges", 1, 1, 3, ranges_names};
    return on_rows(self, &signature, args, nargs, kwnames, 2, iova_bitmap_set_ranges);
}

const char ib_doc_clear_ranges[] =
    "clear_ranges($self, /, ranges, *, clip=False, exclusive=False)\n--\n\n"
    "Mark every page that a row touches as clean. Parameters and errors are those of\n"
    "set_ranges().\n";

IB_METHOD(clear_ranges)
{
    static const struct ib_signature signature = {"clear_ranges", 1, 1, 3, ranges_names};
    return on_rows(self, &signature, args, nargs, kwnames, 2, iova_bitmap_clear_ranges);
}

const char ib_doc_set_pages[] =
    "set_pages($self, /, iovas, *, exclusive=False)\n--\n\n"
    "Mark the page of each address.\n\n"
    "Parameters\n"
    "----------\n"
    "iovas : array of shape (n,) of integers, or a sequence\n"
    "    Addresses in any order. Native uint64 is not copied. Not a mask of\n"
    "    bools, which is a TypeError.\n"
    "exclusive : bool\n    As of set_ranges().\n\n"
    "Errors are those of set_ranges().\n";

IB_METHOD(set_pages)
{
    static const char *const names[] = {"iovas", "exclusive"};
    static const struct ib_signature signature = {"set_pages", 1, 1, 2, names};
    return on_rows(self, &signature, args, nargs, kwnames, 1, NULL);
}
