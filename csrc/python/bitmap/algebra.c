/*
 * algebra.c - two bitmaps of the same geometry: comparison, operators and counts.
 */
#include "python/bitmap/bitmap.h"

static bool same_geometry(const struct ib_bitmap *a, const struct ib_bitmap *b)
{
    const struct iova_bitmap_geometry *left = ib_bitmap_geometry(a);
    const struct iova_bitmap_geometry *right = ib_bitmap_geometry(b);

    return left->iova == right->iova && left->length == right->length &&
           left->page_size == right->page_size;
}

int ib_bitmap_check_type(struct ib_bitmap *self, PyObject *other, const char *name)
{
    if (!PyObject_TypeCheck(other, self->state->bitmap_type)) {
        PyErr_Format(PyExc_TypeError, "%s must be an IOVABitmap, not %R", name, Py_TYPE(other));
        return -1;
    }
    return 0;
}

/* 0 where neither is freed and their geometries are the same; -1 and ValueError. */
static int check_same(struct ib_bitmap *self, struct ib_bitmap *other)
{
    if (ib_bitmap_check(self) < 0 || ib_bitmap_check(other) < 0) {
        return -1;
    }
    if (!same_geometry(self, other)) {
        PyErr_Format(PyExc_ValueError, "the geometries differ: %R and %R", self, other);
        return -1;
    }
    return 0;
}

int ib_call_begin_same(struct ib_call *call, struct ib_bitmap *self, struct ib_bitmap *other)
{
    return !call->held && check_same(self, other) < 0
               ? -1
               : ib_call_begin(call, self, other, ib_bitmap_geometry(self)->nbytes);
}

PyObject *ib_bitmap_compare(PyObject *a, PyObject *b, int op)
{
    struct ib_bitmap *left = (struct ib_bitmap *)a;
    struct ib_bitmap *right = (struct ib_bitmap *)b;
    struct ib_call call = {0};
    int equal = 0;

    if ((op != Py_EQ && op != Py_NE) || !PyObject_TypeCheck(b, left->state->bitmap_type)) {
        return Py_NewRef(Py_NotImplemented);
    }
    if (ib_bitmap_check(left) < 0 || ib_bitmap_check(right) < 0) {
        return NULL;
    }
    if (same_geometry(left, right)) {
        if (ib_call_begin(&call, left, right, ib_bitmap_geometry(left)->nbytes) < 0) {
            return NULL;
        }
        equal = iova_bitmap_equal(left->engine, right->engine, &call.report);
        equal = ib_call_answer(&call, equal);
    }
    return equal < 0 ? NULL : PyBool_FromLong((equal != 0) == (op == Py_EQ));
}

/* ---- operators ---- */

/* self = self OP other. 0 or -1. */
static int combine(struct ib_bitmap *self, struct ib_bitmap *other,
                   enum iova_bitmap_operation operation, bool held)
{
    struct ib_call call = {.held = held};

    if (ib_call_begin_same(&call, self, other) < 0) {
        return -1;
    }
    return ib_call_end(&call,
                       iova_bitmap_combine(self->engine, other->engine, operation, &call.report));
}

/* The bitmap that an operand is, by the slot it came through; NULL where it is none. */
static struct ib_bitmap *operand(PyObject *object)
{
    struct ib_state *state = ib_state_of_type(Py_TYPE(object));

    if (state == NULL || !PyObject_TypeCheck(object, state->bitmap_type)) {
        PyErr_Clear();
        return NULL;
    }
    return (struct ib_bitmap *)object;
}

static PyObject *inplace(PyObject *a, PyObject *b, enum iova_bitmap_operation operation)
{
    struct ib_bitmap *self = operand(a);
    struct ib_bitmap *other = operand(b);

    if (self == NULL || other == NULL || self->state != other->state) {
        return Py_NewRef(Py_NotImplemented);
    }
    return combine(self, other, operation, false) < 0 ? NULL : Py_NewRef(a);
}

static PyObject *binary(PyObject *a, PyObject *b, enum iova_bitmap_operation operation)
{
    struct ib_bitmap *left = operand(a);
    struct ib_bitmap *right = operand(b);

    if (left == NULL || right == NULL || left->state != right->state) {
        return Py_NewRef(Py_NotImplemented);
    }
    if (check_same(left, right) < 0 || ib_bitmap_begin(right) < 0) { /* held during the copy */
        return NULL;
    }
    PyObject *result = ib_bitmap_copy(left, NULL);
    if (result != NULL && combine((struct ib_bitmap *)result, right, operation, true) < 0) {
        Py_CLEAR(result);
    }
    ib_bitmap_end(right);
    return result;
}

PyObject *ib_bitmap_and(PyObject *a, PyObject *b)
{
    return binary(a, b, IOVA_BITMAP_AND);
}

PyObject *ib_bitmap_inplace_and(PyObject *a, PyObject *b)
{
    return inplace(a, b, IOVA_BITMAP_AND);
}

PyObject *ib_bitmap_or(PyObject *a, PyObject *b)
{
    return binary(a, b, IOVA_BITMAP_OR);
}

PyObject *ib_bitmap_inplace_or(PyObject *a, PyObject *b)
{
    return inplace(a, b, IOVA_BITMAP_OR);
}

PyObject *ib_bitmap_xor(PyObject *a, PyObject *b)
{
    return binary(a, b, IOVA_BITMAP_XOR);
}

PyObject *ib_bitmap_inplace_xor(PyObject *a, PyObject *b)
{
    return inplace(a, b, IOVA_BITMAP_XOR);
}

PyObject *ib_bitmap_sub(PyObject *a, PyObject *b)
{
    return binary(a, b, IOVA_BITMAP_SUB);
}

PyObject *ib_bitmap_inplace_sub(PyObject *a, PyObject *b)
{
    return inplace(a, b, IOVA_BITMAP_SUB);
}

/* ---- counts ---- */

static PyObject *count(struct ib_bitmap *self, const char *name, PyObject *const *args,
                       Py_ssize_t nargs, PyObject *kwnames, enum iova_bitmap_operation operation)
{
    static const char *const names[] = {"other"};
    const struct ib_signature signature = {name, 1, 1, 1, names};
    struct ib_call call = {0};
    PyObject *parsed[1];

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0 ||
        ib_bitmap_check_type(self, parsed[0], "other") < 0) {
        return NULL;
    }
    struct ib_bitmap *other = (struct ib_bitmap *)parsed[0];
    if (ib_call_begin_same(&call, self, other) < 0) {
        return NULL;
    }
    int rc = iova_bitmap_count_combined(self->engine, other->engine, operation, &call.report);
    return ib_call_answer(&call, rc) < 0 ? NULL : PyLong_FromUnsignedLongLong(call.report.pages);
}

const char ib_doc_count_and[] = "count_and($self, /, other)\n--\n\n"
                                "Number of pages dirty in both, without building the bitmap.\n\n"
                                "Raises\n"
                                "------\n"
                                "ValueError\n    Where the geometries differ.\n"
                                "PinError\n    Where memory could not be made readable.\n";

IB_METHOD(count_and)
{
    return count(self, "count_and", args, nargs, kwnames, IOVA_BITMAP_AND);
}

const char ib_doc_count_or[] = "count_or($self, /, other)\n--\n\n"
                               "Number of pages dirty in either, without building the bitmap.\n\n"
                               "Raises\n"
                               "------\n"
                               "ValueError\n    Where the geometries differ.\n"
                               "PinError\n    Where memory could not be made readable.\n";

IB_METHOD(count_or)
{
    return count(self, "count_or", args, nargs, kwnames, IOVA_BITMAP_OR);
}

const char ib_doc_count_xor[] = "count_xor($self, /, other)\n--\n\n"
                                "Number of pages dirty in one of the two only.\n\n"
                                "Raises\n"
                                "------\n"
                                "ValueError\n    Where the geometries differ.\n"
                                "PinError\n    Where memory could not be made readable.\n";

IB_METHOD(count_xor)
{
    return count(self, "count_xor", args, nargs, kwnames, IOVA_BITMAP_XOR);
}

const char ib_doc_count_sub[] = "count_sub($self, /, other)\n--\n\n"
                                "Number of pages dirty here and clean in `other`.\n\n"
                                "Raises\n"
                                "------\n"
                                "ValueError\n    Where the geometries differ.\n"
                                "PinError\n    Where memory could not be made readable.\n";

IB_METHOD(count_sub)
{
    return count(self, "count_sub", args, nargs, kwnames, IOVA_BITMAP_SUB);
}
