/*
 * bitmap_query.c - methods that read: test, count, ranges, view, to_mask, and comparison.
 */
#include "binding.h"

#include <errno.h>
#include <string.h>

/* A read records nothing: its PinError's `newly` is 0, whatever it had counted. */
static PyObject *raise_query(struct ib_bitmap *self, int rc, struct iova_bitmap_report *report,
                             uint64_t iova, uint64_t length)
{
    report->pages = 0;
    return ib_raise(self->state, iova_bitmap_geometry(self->engine), rc, report, iova, length);
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
    PyObject *parsed[1];
    uint64_t iova;
    struct iova_bitmap_report report;

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0 ||
        ib_u64(parsed[0], "iova", &iova) < 0 || ib_bitmap_begin(self) < 0) {
        return NULL;
    }
    int rc = iova_bitmap_count(self->engine, iova, 1, 0, &report);
    if (rc < 0) {
        raise_query(self, rc, &report, iova, 1);
    }
    ib_bitmap_end(self);
    return rc < 0 ? NULL : PyBool_FromLong(report.pages != 0);
}

/*
 * The range (iova=None, length=None): an iova left out is the base, a length left out reaches to
 * the end. Where iova lies behind the end, that length is 0 and the range is outside. 0 or -1.
 */
static int optional_range(struct ib_bitmap *self, PyObject *iova_object, PyObject *length_object,
                          uint64_t *iova, uint64_t *length)
{
    const struct iova_bitmap_geometry *geometry = iova_bitmap_geometry(self->engine);

    *iova = geometry->iova;
    if (iova_object != NULL && iova_object != Py_None && ib_u64(iova_object, "iova", iova) < 0) {
        return -1;
    }
    if (length_object != NULL && length_object != Py_None) {
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

static const char *const range_names[] = {"iova", "length"};

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
    static const struct ib_signature signature = {"count", 0, 2, 2, range_names};
    PyObject *parsed[2];
    uint64_t iova, length;
    struct iova_bitmap_report report;

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0 || ib_bitmap_begin(self) < 0) {
        return NULL;
    }
    int rc = optional_range(self, parsed[0], parsed[1], &iova, &length);
    if (rc == 0) {
        rc = iova_bitmap_count(self->engine, iova, length, 0, &report);
        if (rc < 0) {
            raise_query(self, rc, &report, iova, length);
        }
    }
    ib_bitmap_end(self);
    return rc < 0 ? NULL : PyLong_FromUnsignedLongLong(report.pages);
}

const char ib_doc_ranges[] =
    "ranges($self, /, iova=None, length=None)\n--\n\n"
    "The runs of dirty pages as an array of shape (n, 2), uint64, of rows (iova, length).\n\n"
    "Rows are in bytes of IOVA, ascending and maximal, and cut to the bitmap's range and to the\n"
    "range asked for. Parameters and errors are those of count().\n\n"
    "Examples\n"
    "--------\n"
    ">>> bm = IOVABitmap(0, 0x10000)\n"
    ">>> bm.set(0x1000, 0x2000)\n"
    ">>> bm.ranges().tolist()\n"
    "[[4096, 8192]]\n";

IB_METHOD(ranges)
{
    static const struct ib_signature signature = {"ranges", 0, 2, 2, range_names};
    PyObject *parsed[2];
    uint64_t iova, length, rows = 0;
    struct iova_bitmap_range *ranges = NULL;
    struct iova_bitmap_report report;

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0 || ib_bitmap_begin(self) < 0) {
        return NULL;
    }
    int rc = optional_range(self, parsed[0], parsed[1], &iova, &length);
    if (rc == 0) {
        rc = iova_bitmap_ranges(self->engine, iova, length, 0, &ranges, &rows, &report);
        if (rc < 0) {
            raise_query(self, rc, &report, iova, length);
        }
    }
    ib_bitmap_end(self);
    if (rc < 0) {
        return NULL;
    }
    PyObject *memory =
        ib_memory_adopt(self->state, ranges, rows * sizeof(*ranges), iova_bitmap_ranges_free);
    PyObject *array = memory == NULL ? NULL : ib_array(self->state, memory, "=u8", rows, 2);
    Py_XDECREF(memory);
    return array;
}

/* "u1" or "u8" for anything that numpy.dtype understands as one of them; NULL and ValueError. */
static const char *view_dtype(PyObject *object)
{
    static const char *const supported[] = {"u1", "u8"};
    PyObject *numpy = PyImport_ImportModule("numpy");
    PyObject *given = numpy == NULL ? NULL : PyObject_CallMethod(numpy, "dtype", "O", object);
    const char *found = NULL;

    for (int i = 0; given != NULL && found == NULL && i < 2; i++) {
        PyObject *dtype = PyObject_CallMethod(numpy, "dtype", "s", supported[i]);
        int equal = dtype == NULL ? -1 : PyObject_RichCompareBool(given, dtype, Py_EQ);
        Py_XDECREF(dtype);
        if (equal < 0) {
            break;
        }
        found = equal ? supported[i] : NULL;
    }
    if (found == NULL && given != NULL && !PyErr_Occurred()) {
        PyErr_Format(PyExc_ValueError, "dtype must be 'u1' or 'u8', not %R", object);
    }
    Py_XDECREF(given);
    Py_XDECREF(numpy);
    return found;
}

/* The memory as an array, between begin and end. */
static PyObject *view(struct ib_bitmap *self, const char *dtype)
{
    uint64_t nbytes = iova_bitmap_geometry(self->engine)->nbytes;

    if (strcmp(dtype, "u1") == 0) {
        return ib_array(self->state, self->memory, dtype, nbytes, 0);
    }
    if (nbytes % 8 != 0) {
        PyErr_Format(PyExc_ValueError,
                     "a view as 'u8' needs a multiple of 8 bytes, the bitmap has %llu",
                     (unsigned long long)nbytes);
        return NULL;
    }
    if ((uintptr_t)ib_memory_bytes(self->memory) % 8 != 0) {
        PyErr_Format(PyExc_ValueError,
                     "a view as 'u8' needs memory at a multiple of 8, the bitmap's is at %p",
                     (void *)ib_memory_bytes(self->memory));
        return NULL;
    }
    return ib_array(self->state, self->memory, "<u8", nbytes / 8, 0);
}

const char ib_doc_view[] =
    "view($self, /, dtype='u1')\n--\n\n"
    "The bitmap's memory as an array of nbytes bytes ('u1') or of 64-bit words ('u8').\n\n"
    "Zero-copy and writable. It outlives free(): it is the caller's memory, which stays held "
    "until\n"
    "the array is gone. Bit n of the bitmap is bit n % 64 of word n // 64.\n\n"
    "Raises\n"
    "------\n"
    "ValueError\n    For another dtype, or 'u8' where the size or the address of the memory is\n"
    "    no multiple of 8.\n";

IB_METHOD(view)
{
    static const char *const names[] = {"dtype"};
    static const struct ib_signature signature = {"view", 0, 1, 1, names};
    PyObject *parsed[1], *array = NULL;

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0 || ib_bitmap_begin(self) < 0) {
        return NULL;
    }
    const char *dtype = parsed[0] == NULL ? "u1" : view_dtype(parsed[0]);
    if (dtype != NULL) {
        array = view(self, dtype);
    }
    ib_bitmap_end(self);
    return array;
}

const char ib_doc_to_mask[] = "to_mask($self, /)\n--\n\n"
                              "A copy as an array of nbits bools, True where the page is dirty.\n\n"
                              "Raises\n"
                              "------\n"
                              "PinError\n    Where memory could not be made readable.\n";

IB_METHOD_NOARGS(to_mask)
{
    struct iova_bitmap_report report;
    (void)unused;

    if (ib_bitmap_begin(self) < 0) {
        return NULL;
    }
    uint64_t nbits = iova_bitmap_geometry(self->engine)->nbits;
    PyObject *array = NULL;
    PyObject *memory = ib_memory_zeroed(self->state, nbits);
    if (memory != NULL) {
        int rc = iova_bitmap_to_mask(self->engine, ib_memory_bytes(memory), &report);
        array = rc < 0 ? raise_query(self, rc, &report, 0, 0)
                       : ib_array(self->state, memory, "?", nbits, 0);
        Py_DECREF(memory);
    }
    ib_bitmap_end(self);
    return array;
}

const char ib_doc___array__[] =
    "__array__($self, /, dtype=None, copy=None)\n--\n\n"
    "Refused: bytes and pages are both arrays of a bitmap. Use view() or to_mask().";

IB_METHOD(__array__)
{
    (void)self;
    (void)args;
    (void)nargs;
    (void)kwnames;
    PyErr_SetString(PyExc_TypeError, "an IOVABitmap is not converted to an array implicitly: use "
                                     "view() for its memory, to_mask() for one bool a page");
    return NULL;
}

static bool same_geometry(const struct iova_bitmap *a, const struct iova_bitmap *b)
{
    const struct iova_bitmap_geometry *left = iova_bitmap_geometry(a);
    const struct iova_bitmap_geometry *right = iova_bitmap_geometry(b);

    return left->iova == right->iova && left->length == right->length &&
           left->page_size == right->page_size;
}

PyObject *ib_bitmap_compare(PyObject *a, PyObject *b, int op)
{
    struct ib_bitmap *left = (struct ib_bitmap *)a;
    struct ib_bitmap *right = (struct ib_bitmap *)b;
    struct iova_bitmap_report report;
    int equal = 0;

    if ((op != Py_EQ && op != Py_NE) || !PyObject_TypeCheck(b, left->state->bitmap_type)) {
        return Py_NewRef(Py_NotImplemented);
    }
    if (ib_bitmap_begin(left) < 0) {
        return NULL;
    }
    if (ib_bitmap_begin(right) < 0) {
        ib_bitmap_end(left);
        return NULL;
    }
    if (same_geometry(left->engine, right->engine)) {
        equal = iova_bitmap_equal(left->engine, right->engine, &report);
        if (equal < 0) {
            raise_query(left, equal, &report, 0, 0);
        }
    }
    ib_bitmap_end(right);
    ib_bitmap_end(left);
    return equal < 0 ? NULL : PyBool_FromLong((equal != 0) == (op == Py_EQ));
}
