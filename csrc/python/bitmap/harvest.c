/*
 * harvest.c - what moves from one bitmap to rows or to another: read_and_clear, merge,
 * rescale.
 */
#include "python/bitmap/bitmap.h"

#include <errno.h>

/* 0 where `into` can take what is harvested from self; -1 and an exception. */
static int check_into(struct ib_bitmap *self, struct ib_bitmap *into)
{
    const struct iova_bitmap_geometry *geometry = ib_bitmap_geometry(self);
    struct iova_bitmap_report none = {0};

    if (self == into) {
        PyErr_SetString(PyExc_ValueError, "into must be another bitmap");
        return -1;
    }
    int rc = iova_bitmap_check_range(into->engine, geometry->iova, geometry->length, 0);
    if (rc < 0) {
        ib_raise(self->state, ib_bitmap_geometry(into), rc, &none, geometry->iova,
                 geometry->length);
        return -1;
    }
    return 0;
}

static PyObject *move_into(struct ib_bitmap *self, struct ib_bitmap *into, uint64_t iova,
                           uint64_t length, unsigned flags)
{
    struct ib_call call = {.iova = iova, .length = length, .held = true};

    if (check_into(self, into) < 0 ||
        ib_call_begin(&call, self, into, ib_bitmap_bytes(self, length)) < 0) {
        return NULL;
    }
    int rc = iova_bitmap_move_into(self->engine, iova, length, flags, into->engine, &call.report);
    return ib_call_end(&call, rc) < 0 ? NULL : ib_none();
}

/* The rows as an array, which takes them over; without memory for that they stay. */
static PyObject *rows_array(struct ib_state *state, struct iova_bitmap_ranges *ranges)
{
    PyObject *memory = ib_memory_adopt(state, NULL, 0, iova_bitmap_rows_free);
    PyObject *array = NULL;

    if (memory != NULL) {
        ib_memory_give(memory, ranges->rows, ranges->count * sizeof(*ranges->rows));
        array = ib_array(state, memory, "=u8", ranges->count, 2);
        if (array == NULL) {
            ib_memory_give(memory, NULL, 0);
        }
        Py_DECREF(memory);
    }
    return array;
}

/* What was harvested and cannot be handed out is marked again; where that fails too, the rows are
 * on the exception that is on its way, or lost with a word. */
static void undo_harvest(struct ib_bitmap *self, struct iova_bitmap_ranges *ranges, bool put_back)
{
    struct iova_bitmap_report report;
    PyObject *pending = ib_take_exception();
    PyObject *rows = NULL;

    if (!put_back || iova_bitmap_put_back(self->engine, ranges, &report) < 0) {
        PyErr_Clear(); /* of a pin object; the first one says why */
        rows = rows_array(self->state, ranges);
        if (rows == NULL || PyObject_SetAttrString(pending, "harvested", rows) < 0) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
    }
    if (rows == NULL) {
        iova_bitmap_rows_free(ranges->rows);
    }
    Py_XDECREF(rows);
    ib_put_exception(pending, NULL);
}

/* Between begin and end: what cannot be handed out is put back. */
static PyObject *harvest(struct ib_bitmap *self, uint64_t iova, uint64_t length, unsigned flags)
{
    struct ib_call call = {.iova = iova, .length = length, .held = true};
    struct iova_bitmap_ranges ranges = {0};

    if (ib_call_begin(&call, self, NULL, ib_bitmap_bytes(self, length)) < 0) {
        return NULL;
    }
    int rc = iova_bitmap_read_and_clear(self->engine, iova, length, flags, &ranges, &call.report);
    if (ib_call_answer(&call, rc) < 0) {
        if (ranges.rows != NULL) {
            undo_harvest(self, &ranges, false);
        }
        return NULL;
    }
    PyObject *array = rows_array(self->state, &ranges);
    if (array == NULL) {
        undo_harvest(self, &ranges, true);
    }
    return array;
}

const char ib_doc_read_and_clear[] =
    "read_and_clear($self, /, iova=None, length=None, *, into=None, exclusive=False)\n--\n\n"
    "The dirty runs, as ranges() gives them, which are clean afterwards.\n\n"
    "Each word is taken atomically: a mark made meanwhile by anyone is in this harvest, or left\n"
    "for the next one.\n\n"
    "Parameters\n"
    "----------\n"
    "iova, length : int, optional\n"
    "    A part of the bitmap: pages that it touches are harvested. An iova left out is the base,\n"
    "    a length left out reaches to the end.\n"
    "into : IOVABitmap, optional\n"
    "    A bitmap of any page size that covers this one's range: it is marked, and None returned.\n"
    "    Pages that the part touches are marked whole, as they are cleared whole.\n"
    "exclusive : bool\n"
    "    You say that nobody else marks this bitmap's memory concurrently, nor that of `into`:\n"
    "    plain stores may be used.\n\n"
    "Raises\n"
    "------\n"
    "IOVARangeError\n"
    "    Where the range is not all inside, or `into` does not cover it; nothing is cleared.\n"
    "PinError\n"
    "    What was taken is marked again, or is in `into`. Where memory could not be pinned for\n"
    "    that either, the exception's attribute `harvested` holds the rows.\n";

IB_METHOD(read_and_clear)
{
    static const char *const names[] = {"iova", "length", "into", "exclusive"};
    static const struct ib_signature signature = {"read_and_clear", 0, 2, 4, names};
    PyObject *parsed[4], *result = NULL;
    uint64_t iova, length;
    unsigned flags = 0;

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0) {
        return NULL;
    }
    PyObject *given = parsed[2] == Py_None ? NULL : parsed[2];
    if ((given != NULL && ib_bitmap_check_type(self, given, "into") < 0) ||
        ib_flag(parsed[3], IOVA_BITMAP_EXCLUSIVE, &flags) < 0 || ib_bitmap_begin(self) < 0) {
        return NULL;
    }
    struct ib_bitmap *into = (struct ib_bitmap *)given;
    if (into != NULL && ib_bitmap_begin(into) < 0) {
        ib_bitmap_end(self);
        return NULL;
    }
    if (ib_bitmap_optional_range(self, parsed[0], parsed[1], &iova, &length) == 0) {
        result = into != NULL ? move_into(self, into, iova, length, flags)
                              : harvest(self, iova, length, flags);
    }
    if (into != NULL) {
        ib_bitmap_end(into);
    }
    ib_bitmap_end(self);
    return result;
}

/* Marks in self what is dirty in other: pages marked for the first time, or -1. */
static int merge(struct ib_bitmap *self, struct ib_bitmap *other, unsigned flags, uint64_t *newly)
{
    struct ib_call call = {0};

    if (ib_call_begin(&call, self, other, ib_bitmap_geometry(other)->nbytes) < 0) {
        return -1;
    }
    int rc =
        self == other ? 0 : iova_bitmap_merge(self->engine, other->engine, flags, &call.report);
    *newly = call.report.pages;
    return ib_call_end(&call, rc);
}

const char ib_doc_merge[] =
    "merge($self, /, other, *, exclusive=False)\n--\n\n"
    "Mark each page that a dirty page of `other` overlaps; return how many were clean before.\n\n"
    "The geometries may differ in everything; what lies outside of this bitmap is left out. With\n"
    "exclusive=True you say that nobody else marks this bitmap's memory concurrently: plain "
    "stores\n"
    "may be used.\n\n"
    "Raises\n"
    "------\n"
    "PinError\n    What other has from its iova on was not merged.\n";

IB_METHOD(merge)
{
    static const char *const names[] = {"other", "exclusive"};
    static const struct ib_signature signature = {"merge", 1, 1, 2, names};
    PyObject *parsed[2];
    uint64_t newly;
    unsigned flags = 0;

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0 ||
        ib_bitmap_check_type(self, parsed[0], "other") < 0 ||
        ib_flag(parsed[1], IOVA_BITMAP_EXCLUSIVE, &flags) < 0 ||
        merge(self, (struct ib_bitmap *)parsed[0], flags, &newly) < 0) {
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(newly);
}

const char ib_doc_rescale[] =
    "rescale($self, /, page_size)\n--\n\n"
    "A bitmap of the same range with another page size, as copy() makes one.\n\n"
    "Its page is dirty where a dirty page of this one overlaps it.\n\n"
    "Raises\n"
    "------\n"
    "ValueError\n    Where page_size is no power of two from 1 to 2**63.\n"
    "PinError\n    Where memory could not be made readable.\n";

IB_METHOD(rescale)
{
    static const char *const names[] = {"page_size"};
    static const struct ib_signature signature = {"rescale", 1, 1, 1, names};
    const struct iova_bitmap_geometry *old = ib_bitmap_geometry(self);
    struct iova_bitmap_geometry geometry;
    PyObject *parsed[1];
    uint64_t page_size, newly;

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0 ||
        ib_u64(parsed[0], "page_size", &page_size) < 0) {
        return NULL;
    }
    int rc = iova_bitmap_geometry_init(&geometry, old->iova, old->length, page_size);
    if (rc < 0) {
        ib_raise_geometry(rc, old->iova, old->length, page_size);
        return NULL;
    }
    PyObject *memory =
        ib_bitmap_check(self) < 0 ? NULL : ib_memory_zeroed(self->state, geometry.nbytes);
    struct ib_bitmap *scaled = NULL;
    if (memory != NULL) {
        scaled = ib_bitmap_over(Py_TYPE((PyObject *)self), self->state, &geometry, memory,
                                iova_bitmap_window_pages(self->engine));
        Py_DECREF(memory);
    }
    if (scaled != NULL && merge(scaled, self, 0, &newly) < 0) {
        Py_CLEAR(scaled);
    }
    return (PyObject *)scaled;
}
