/*
 * algebra.c - two bitmaps of the same geometry: comparison, operators and counts.
 */
#include "python/module/binding.h"

static bool same_geometry(const struct iova_bitmap *a, const struct iova_bitmap *b)
{
    const struct iova_bitmap_geometry *left = iova_bitmap_geometry(a);
    const struct iova_bitmap_geometry *right = iova_bitmap_geometry(b);

    return left->iova == right->iova && left->length == right->length &&
           left->page_size == right->page_size;
}

int ib_bitmap_begin_same(struct ib_bitmap *self, struct ib_bitmap *other)
{
    if (ib_bitmap_begin_both(self, other) < 0) {
        return -1;
    }
    if (!same_geometry(self->engine, other->engine)) {
        PyErr_Format(PyExc_ValueError, "the geometries differ: %R and %R", self, other);
        ib_bitmap_end_both(self, other);
        return -1;
    }
    return 0;
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
    if (ib_bitmap_begin_both(left, right) < 0) {
        return NULL;
    }
    if (same_geometry(left->engine, right->engine)) {
        PyThreadState *thread =
            ib_bitmap_unlock_both(left, right, iova_bitmap_geometry(left->engine)->nbytes);
        equal = iova_bitmap_equal(left->engine, right->engine, &report);
        ib_bitmap_relock(thread);
        if (equal < 0) {
            ib_raise_query(left, equal, &report, 0, 0);
        }
    }
    ib_bitmap_end_both(left, right);
    return equal < 0 ? NULL : PyBool_FromLong((equal != 0) == (op == Py_EQ));
}

/* ---- operators ---- */

/* self = self OP other, between begin and end. 0 or -1. */
static int combine(struct ib_bitmap *self, struct ib_bitmap *other,
                   enum iova_bitmap_operation operation)
{
    struct iova_bitmap_report report;
    PyThreadState *thread =
        ib_bitmap_unlock_both(self, other, iova_bitmap_geometry(self->engine)->nbytes);
    int rc = iova_bitmap_combine(self->engine, other->engine, operation, &report);

    ib_bitmap_relock(thread);
    if (rc < 0) {
        ib_raise(self->state, iova_bitmap_geometry(self->engine), rc, &report, 0, 0);
    }
    return rc;
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
    if (ib_bitmap_begin_same(self, other) < 0) {
        return NULL;
    }
    int rc = combine(self, other, operation);
    ib_bitmap_end_both(self, other);
    return rc < 0 ? NULL : Py_NewRef(a);
}

static PyObject *binary(PyObject *a, PyObject *b, enum iova_bitmap_operation operation)
{
    struct ib_bitmap *left = operand(a);
    struct ib_bitmap *right = operand(b);

    if (left == NULL || right == NULL || left->state != right->state) {
        return Py_NewRef(Py_NotImplemented);
    }
    if (ib_bitmap_begin_same(left, right) < 0) {
        return NULL;
    }
    PyObject *result = ib_bitmap_copy(left, NULL);
    if (result != NULL && combine((struct ib_bitmap *)result, right, operation) < 0) {
        Py_CLEAR(result);
    }
    ib_bitmap_end_both(left, right);
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
    PyObject *parsed[1];
    struct iova_bitmap_report report;

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0 ||
        ib_bitmap_check_type(self, parsed[0], "other") < 0) {
        return NULL;
    }
    struct ib_bitmap *other = (struct ib_bitmap *)parsed[0];
    if (ib_bitmap_begin_same(self, other) < 0) {
        return NULL;
    }
    PyThreadState *thread =
        ib_bitmap_unlock_both(self, other, iova_bitmap_geometry(self->engine)->nbytes);
    int rc = iova_bitmap_count_combined(self->engine, other->engine, operation, &report);
    ib_bitmap_relock(thread);
    if (rc < 0) {
        ib_raise_query(self, rc, &report, 0, 0);
    }
    ib_bitmap_end_both(self, other);
    return rc < 0 ? NULL : PyLong_FromUnsignedLongLong(report.pages);
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
