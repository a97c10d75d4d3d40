/*
 * query.c - questions whose answer is a number or a page: test, count, any, all, find_dirty,
 * find_clean, count_ranges, histogram.
 */
#include "python/bitmap/bitmap.h"

#include <errno.h>

/* 1 where an int is the end of a range that ends at 2**64, which is no address; else 0, or -1. */
static int is_end(struct ib_bitmap *self, PyObject *object)
{
    if (!PyLong_Check(object) || ib_bitmap_geometry(self)->last != UINT64_MAX) {
        return 0;
    }
    PyObject *end = PyObject_GetAttrString((PyObject *)self, "end");
    int equal = end == NULL ? -1 : PyObject_RichCompareBool(object, end, Py_EQ);
    Py_XDECREF(end);
    return equal;
}

int ib_bitmap_optional_range(struct ib_bitmap *self, PyObject *iova_object, PyObject *length_object,
                             uint64_t *iova, uint64_t *length)
{
    const struct iova_bitmap_geometry *geometry = ib_bitmap_geometry(self);

    *iova = geometry->iova;
    *length = 0;
    bool to_end = length_object == NULL || length_object == Py_None;
    int at_end = iova_object != NULL && to_end ? is_end(self, iova_object) : 0;
    if (at_end != 0) {
        return at_end < 0 ? -1 : 0;
    }
    if (iova_object != NULL && iova_object != Py_None && ib_u64(iova_object, "iova", iova) < 0) {
        return -1;
    }
    if (!to_end) {
        return ib_u64(length_object, "length", length);
    }
    *length = geometry->last - *iova + 1; /* 0 where iova is the end */
    if (*iova < geometry->iova || (*iova > geometry->last && *length != 0)) {
        struct iova_bitmap_report none = {0};
        *length = *iova > geometry->last ? 0 : *length;
        ib_raise(self->state, geometry, -ERANGE, &none, *iova, *length);
        return -1;
    }
    return 0;
}

const char ib_doc_test[] = "test($self, /, iova)\n--\n\n"
                           "True where the page of address `iova` is dirty.\n\n"
                           "Raises\n"
                           "------\n"
                           "IOVARangeError\n    Where iova is not inside the bitmap.\n"
                           "PinError\n    Where the memory could not be made readable.\n";

IB_METHOD(test)
{
    static const char *const names[] = {"iova"};
    static const struct ib_signature signature = {"test", 1, 1, 1, names};
    struct ib_call call = {.length = 1};
    PyObject *parsed[1];

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0 ||
        ib_u64(parsed[0], "iova", &call.iova) < 0 || ib_call_begin(&call, self, NULL, 0) < 0) {
        return NULL;
    }
    int rc = iova_bitmap_count(self->engine, call.iova, 1, 0, &call.report);
    return ib_call_answer(&call, rc) < 0 ? NULL : PyBool_FromLong(call.report.pages != 0);
}

/* What an engine call answers: its result, and the number in report->pages or *found. */
typedef int (*question)(struct iova_bitmap *engine, uint64_t iova, uint64_t length, unsigned flags,
                        uint64_t *found, struct iova_bitmap_report *report);

static int count_question(struct iova_bitmap *engine, uint64_t iova, uint64_t length,
                          unsigned flags, uint64_t *found, struct iova_bitmap_report *report)
{
    int rc = iova_bitmap_count(engine, iova, length, flags, report);
    *found = report->pages;
    return rc;
}

static int count_ranges_question(struct iova_bitmap *engine, uint64_t iova, uint64_t length,
                                 unsigned flags, uint64_t *found, struct iova_bitmap_report *report)
{
    int rc = iova_bitmap_count_ranges(engine, iova, length, flags, report);
    *found = report->pages;
    return rc;
}

/* Asks about the range (iova=None, length=None): the engine's result, or -1 and an exception. */
static int ask(struct ib_bitmap *self, PyObject *iova_object, PyObject *length_object,
               question engine_call, unsigned flags, uint64_t *found)
{
    struct ib_call call = {.held = true};

    if (ib_bitmap_begin(self) < 0) {
        return -1;
    }
    int rc = ib_bitmap_optional_range(self, iova_object, length_object, &call.iova, &call.length);
    if (rc == 0) {
        ib_call_begin(&call, self, NULL, ib_bitmap_bytes(self, call.length));
        rc = engine_call(self->engine, call.iova, call.length, flags, found, &call.report);
        rc = ib_call_answer(&call, rc);
    }
    ib_bitmap_end(self);
    return rc;
}

static const char *const range_names[] = {"iova", "length"};

/* The same from a call's arguments. */
static int ask_range(struct ib_bitmap *self, const char *name, PyObject *const *args,
                     Py_ssize_t nargs, PyObject *kwnames, question engine_call, unsigned flags,
                     uint64_t *found)
{
    const struct ib_signature signature = {name, 0, 2, 2, range_names};
    PyObject *parsed[2];

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0) {
        return -1;
    }
    return ask(self, parsed[0], parsed[1], engine_call, flags, found);
}

const char ib_doc_count[] =
    "count($self, /, iova=None, length=None)\n--\n\n"
    "Number of dirty pages that [iova, iova + length) touches, by default of all.\n\n"
    "An iova left out is the base, a length left out reaches to the end.\n\n"
    "Raises\n"
    "------\n"
    "IOVARangeError\n    Where the range is not all inside.\n"
    "PinError\n    Where memory could not be made readable.\n";

IB_METHOD(count)
{
    uint64_t pages = 0;
    int rc = ask_range(self, "count", args, nargs, kwnames, count_question, 0, &pages);
    return rc < 0 ? NULL : PyLong_FromUnsignedLongLong(pages);
}

const char ib_doc_count_ranges[] = "count_ranges($self, /, iova=None, length=None)\n--\n\n"
                                   "Number of rows that ranges() has, without making them.\n\n"
                                   "Parameters and errors are those of count().\n";

IB_METHOD(count_ranges)
{
    uint64_t rows = 0;
    int rc = ask_range(self, "count_ranges", args, nargs, kwnames, count_ranges_question, 0, &rows);
    return rc < 0 ? NULL : PyLong_FromUnsignedLongLong(rows);
}

const char ib_doc_any[] = "any($self, /, iova=None, length=None)\n--\n\n"
                          "True where a page that the range touches is dirty.\n\n"
                          "Parameters and errors are those of count().\n";

IB_METHOD(any)
{
    uint64_t found;
    int rc = ask_range(self, "any", args, nargs, kwnames, iova_bitmap_find, 0, &found);
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}

const char ib_doc_all[] =
    "all($self, /, iova=None, length=None)\n--\n\n"
    "True where all pages that the range touches are dirty; also where it touches none.\n\n"
    "Parameters and errors are those of count().\n";

IB_METHOD(all)
{
    uint64_t found;
    int rc =
        ask_range(self, "all", args, nargs, kwnames, iova_bitmap_find, IOVA_BITMAP_CLEAN, &found);
    return rc < 0 ? NULL : PyBool_FromLong(!rc);
}

/* The first page from an address on. */
static PyObject *find(struct ib_bitmap *self, const char *name, PyObject *const *args,
                      Py_ssize_t nargs, PyObject *kwnames, unsigned flags)
{
    static const char *const names[] = {"start"};
    const struct ib_signature signature = {name, 1, 1, 1, names};
    PyObject *parsed[1];
    uint64_t found;

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0) {
        return NULL;
    }
    if (parsed[0] == Py_None) { /* which would be the base */
        PyErr_SetString(PyExc_TypeError, "start must be an int, not None");
        return NULL;
    }
    int rc = ask(self, parsed[0], NULL, iova_bitmap_find, flags, &found);
    if (rc < 0) {
        return NULL;
    }
    return rc == 0 ? ib_none() : PyLong_FromUnsignedLongLong(found);
}

const char ib_doc_find_dirty[] =
    "find_dirty($self, /, start)\n--\n\n"
    "First address of the first dirty page from the page of `start` on, or None.\n\n"
    "Raises\n"
    "------\n"
    "IOVARangeError\n    Where start is neither inside nor the end.\n"
    "PinError\n    Where memory could not be made readable.\n";

IB_METHOD(find_dirty)
{
    return find(self, "find_dirty", args, nargs, kwnames, 0);
}

const char ib_doc_find_clean[] =
    "find_clean($self, /, start)\n--\n\n"
    "First address of the first clean page from the page of `start` on, or None.\n\n"
    "Errors are those of find_dirty().\n";

IB_METHOD(find_clean)
{
    return find(self, "find_clean", args, nargs, kwnames, IOVA_BITMAP_CLEAN);
}

const char ib_doc_histogram[] =
    "histogram($self, /, bins)\n--\n\n"
    "Dirty pages in each of `bins` parts of the bitmap, an array of shape (bins,), int64.\n\n"
    "Bin i holds bits i * nbits // bins to (i + 1) * nbits // bins.\n\n"
    "Raises\n"
    "------\n"
    "ValueError\n    Where bins is 0.\n"
    "PinError\n    Where memory could not be made readable.\n";

IB_METHOD(histogram)
{
    static const char *const names[] = {"bins"};
    static const struct ib_signature signature = {"histogram", 1, 1, 1, names};
    struct ib_call call = {0};
    PyObject *parsed[1];
    uint64_t bins;

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0 ||
        ib_u64(parsed[0], "bins", &bins) < 0) {
        return NULL;
    }
    if (bins == 0 || bins > (uint64_t)PY_SSIZE_T_MAX / sizeof(uint64_t)) {
        PyErr_Format(PyExc_ValueError, "bins must be 1 to %zd, not %llu",
                     PY_SSIZE_T_MAX / (Py_ssize_t)sizeof(uint64_t), (unsigned long long)bins);
        return NULL;
    }
    PyObject *memory =
        ib_bitmap_check(self) < 0 ? NULL : ib_memory_zeroed(self->state, bins * sizeof(uint64_t));
    if (memory == NULL) {
        return NULL;
    }
    uint64_t *counts = (uint64_t *)(void *)ib_memory_bytes(memory);
    if (ib_call_begin(&call, self, NULL, ib_bitmap_geometry(self)->nbytes) < 0 ||
        ib_call_answer(&call, iova_bitmap_histogram(self->engine, bins, counts, &call.report)) <
            0) {
        Py_CLEAR(memory);
    }
    return ib_array_of(self->state, memory, "=i8", bins, 0);
}
