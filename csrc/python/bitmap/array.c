/*
 * array.c - a bitmap as NumPy arrays: view, to_mask, and what is refused.
 */
#include "python/bitmap/bitmap.h"

#include <string.h>

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
    uint64_t nbytes = ib_bitmap_geometry(self)->nbytes;

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
    "ValueError\n    For another dtype (TypeError for what is none), or 'u8' where the size or the "
    "address of the memory is\n"
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
    const uint64_t nbits = ib_bitmap_geometry(self)->nbits;
    struct ib_call call = {0};
    (void)unused;

    PyObject *memory = ib_bitmap_check(self) < 0 ? NULL : ib_memory_zeroed(self->state, nbits);
    if (memory == NULL) {
        return NULL;
    }
    uint8_t *mask = ib_memory_bytes(memory);
    if (ib_call_begin(&call, self, NULL, nbits) < 0 || /* bytes of the mask */
        ib_call_answer(&call, iova_bitmap_to_mask(self->engine, mask, &call.report)) < 0) {
        Py_CLEAR(memory);
    }
    return ib_array_of(self->state, memory, "?", nbits, 0);
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
