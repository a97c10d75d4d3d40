/*
 * items.c - array arguments: rows (iova, length) or addresses, from anything that holds integers.
 *
 * Native uint64 in order is used where it lies. Other integers are converted one by one, and a bad
 * one is named by its row, counted from 0. A list, or whatever is no buffer, is read as a sequence.
 */
#include "python/exchange/exchange.h"

#include <string.h>

static int bad_shape(const char *name, int columns)
{
    PyErr_Format(PyExc_ValueError, "%s must be of shape %s", name,
                 columns == 2 ? "(n, 2): rows of iova and length" : "(n,): addresses");
    return -1;
}

/* One integer of a buffer, by the code of its format, in native byte order. 0, or -1 where it is
 * negative, with its value in *negative. */
static int read_integer(const char *at, char code, Py_ssize_t size, bool swap, uint64_t *value,
                        int64_t *negative)
{
    unsigned char bytes[8] = {0};
    uint64_t word = 0;

    memcpy(bytes, at, (size_t)size);
    for (Py_ssize_t i = 0; i < size; i++) {
        Py_ssize_t from = (PY_LITTLE_ENDIAN != 0) != swap ? i : size - 1 - i;
        word |= (uint64_t)bytes[from] << (8 * i);
    }
    if (strchr("bhilqn", code) != NULL && (word >> (8 * size - 1)) != 0) {
        *negative = (int64_t)(size == 8 ? word : word | UINT64_MAX << (8 * size));
        return -1;
    }
    *value = word;
    return 0;
}

/* The code of a buffer of integers, and whether its bytes are in the other order; 0 for others. */
static char integer_code(const Py_buffer *view, bool *swap)
{
    const char *format = view->format == NULL ? "B" : view->format;

    *swap = false;
    if (strchr("@=<>!", *format) != NULL && *format != '\0') {
        *swap = PY_LITTLE_ENDIAN != 0 ? *format == '>' || *format == '!' : *format == '<';
        format++;
    }
    bool integer = *format != '\0' && strchr("?bBhHiIlLqQnN", *format) != NULL &&
                   format[1] == '\0' && view->itemsize <= (view->format == NULL ? 1 : 8);
    return integer ? *format : '\0';
}

/* Bools are a mask of pages: taken for addresses, they would all be 0 and 1. */
static int refuse_mask(const char *name)
{
    PyErr_Format(PyExc_TypeError,
                 "%s must hold addresses, not bools: those of the pages of a mask are "
                 "bm.iova + numpy.flatnonzero(mask) * bm.page_size",
                 name);
    return -1;
}

/* Fills items->owned from a buffer in any order and of any integers. */
static int convert(struct ib_items *items, const struct ib_layout *layout, const char *name)
{
    const Py_buffer *view = &items->view;
    const int columns = layout->ndim;
    bool swap;
    char code = integer_code(view, &swap);

    if (code == '\0') {
        PyErr_Format(PyExc_TypeError, "%s must hold integers, not '%s'", name,
                     view->format == NULL ? "items of several bytes" : view->format);
        return -1;
    }
    items->owned = PyMem_Calloc((size_t)items->count * (size_t)columns + 1, sizeof(uint64_t));
    if (items->owned == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (uint64_t row = 0; row < items->count; row++) {
        if (ib_poll_each(row) < 0) {
            return -1;
        }
        for (int column = 0; column < columns; column++) {
            const char *at = (const char *)view->buf + (Py_ssize_t)row * layout->strides[0];
            int64_t negative;
            if (columns == 2) {
                at += column * layout->strides[1];
            }
            if (read_integer(at, code, view->itemsize, swap,
                             &items->owned[row * (unsigned)columns + (unsigned)column],
                             &negative) < 0) {
                PyErr_Format(PyExc_ValueError, "row %llu: must be 0 to 2**64 - 1, not %lld",
                             (unsigned long long)row, (long long)negative);
                return -1;
            }
        }
    }
    items->items = items->owned;
    return 0;
}

/* Whether the buffer without strides is one number of NumPy's, whose bytes are no array. */
static bool is_scalar(PyObject *object)
{
    PyObject *ndim = PyObject_GetAttrString(object, "ndim");
    bool scalar = ndim != NULL && PyLong_Check(ndim) && PyLong_AsLong(ndim) == 0;

    Py_XDECREF(ndim);
    PyErr_Clear();
    return scalar;
}

/* From the buffer that items->view holds. */
static int from_buffer(PyObject *object, const char *name, int columns, struct ib_items *items)
{
    const Py_buffer *view = &items->view;
    struct ib_layout layout;
    bool swap;

    if (ib_foreign_check(view, false) < 0 || ib_foreign_layout(view, &layout) < 0) {
        return -1;
    }
    if (view->strides == NULL && is_scalar(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be an array or a sequence, not %R", name,
                     Py_TYPE(object));
        return -1;
    }
    if (view->len == 0) {
        return 0;
    }
    char code = integer_code(view, &swap);
    if (code == '?') {
        return refuse_mask(name);
    }
    if (layout.ndim != columns || (columns == 2 && layout.shape[1] != 2)) {
        return bad_shape(name, columns);
    }
    items->count = (uint64_t)layout.shape[0];
    if (code != '\0' && strchr("LQN", code) != NULL && view->itemsize == 8 && !swap &&
        layout.packed && (uintptr_t)view->buf % sizeof(uint64_t) == 0) {
        items->items = view->buf;
        return 0;
    }
    return convert(items, &layout, name);
}

void ib_name_row(uint64_t row)
{
    PyObject *exception = ib_take_exception();
    PyObject *message = PyUnicode_FromFormat("row %llu: %S", (unsigned long long)row, exception);
    PyObject *args = message == NULL ? NULL : PyTuple_Pack(1, message);

    if (args != NULL) {
        PyObject_SetAttrString(exception, "args", args);
    }
    Py_XDECREF(message);
    Py_XDECREF(args);
    ib_put_exception(exception, NULL);
}

/* An exception that is not ours stays what it is; where it came from is a note. */
static void note_row(uint64_t row)
{
    PyObject *exception = ib_take_exception();
    PyObject *note = PyUnicode_FromFormat("row %llu", (unsigned long long)row);
    PyObject *done = note == NULL ? NULL : PyObject_CallMethod(exception, "add_note", "O", note);

    Py_XDECREF(note);
    Py_XDECREF(done);
    PyErr_Clear();
    ib_put_exception(exception, NULL);
}

/* A number of row `row`. 0, or -1 and an exception that tells the row. */
static int read_number(PyObject *object, const char *name, uint64_t row, uint64_t *out)
{
    if (ib_exact_u64(object, out)) {
        return 0;
    }
    if (PyBool_Check(object)) {
        PyErr_Format(PyExc_TypeError, "row %llu: %s must be an int, not %R",
                     (unsigned long long)row, name, Py_TYPE(object));
        return -1;
    }
    PyObject *integer = Py_NewRef(object);
    if (!PyLong_Check(object) && PyIndex_Check(object)) {
        Py_DECREF(integer);
        integer = PyNumber_Index(object);
        if (integer == NULL) {
            note_row(row);
            return -1;
        }
    }
    int rc = ib_u64(integer, name, out);
    Py_DECREF(integer);
    if (rc < 0) {
        ib_name_row(row);
    }
    return rc;
}

static bool is_iterable(PyObject *object)
{
    return PyTuple_CheckExact(object) || PySequence_Check(object) ||
           PyType_GetSlot(Py_TYPE(object), Py_tp_iter) != NULL;
}

/* The same of a whole row. */
static int read_row(PyObject *object, int columns, uint64_t row, uint64_t *out)
{
    if (columns == 1) {
        return read_number(object, "iova", row, out);
    }
    PyObject *pair = is_iterable(object) ? PySequence_Tuple(object) : NULL;
    int rc = -1;
    if (pair == NULL && PyErr_Occurred()) {
        note_row(row);
    } else if (pair == NULL) {
        PyErr_Format(PyExc_TypeError, "row %llu: must be (iova, length), not %R",
                     (unsigned long long)row, Py_TYPE(object));
    } else if (PyTuple_Size(pair) != 2) {
        PyErr_Format(PyExc_ValueError, "row %llu: must be (iova, length), not %zd values",
                     (unsigned long long)row, PyTuple_Size(pair));
    } else {
        rc = read_number(PyTuple_GetItem(pair, 0), "iova", row, &out[0]);
        if (rc == 0) {
            rc = read_number(PyTuple_GetItem(pair, 1), "length", row, &out[1]);
        }
    }
    Py_XDECREF(pair);
    return rc;
}

static int from_sequence(PyObject *object, int columns, struct ib_items *items)
{
    PyObject *rows = PySequence_Tuple(object);

    if (rows == NULL) {
        return -1;
    }
    items->count = (uint64_t)PyTuple_Size(rows);
    items->owned = PyMem_Calloc((size_t)items->count * (size_t)columns + 1, sizeof(uint64_t));
    int rc = items->owned == NULL ? -1 : 0;
    if (rc < 0) {
        PyErr_NoMemory();
    }
    for (uint64_t i = 0; rc == 0 && i < items->count; i++) {
        rc = read_row(PyTuple_GetItem(rows, (Py_ssize_t)i), columns, i,
                      items->owned + i * (unsigned)columns);
        if (rc == 0) {
            rc = ib_poll_each(i);
        }
    }
    Py_DECREF(rows);
    items->items = items->owned;
    return rc;
}

/* Holds the object's buffer: false where there is none, or memory of references to Python objects,
 * which are read as a sequence. */
static bool hold_buffer(PyObject *object, Py_buffer *view)
{
    if (!PyObject_CheckBuffer(object)) {
        return false;
    }
    if (PyObject_GetBuffer(object, view, PyBUF_STRIDES | PyBUF_FORMAT) < 0) {
        PyErr_Clear();
        *view = (Py_buffer){0};
        return false;
    }
    if (ib_format_has_objects(view->format)) {
        PyBuffer_Release(view);
        return false;
    }
    return true;
}

int ib_items_get(PyObject *object, const char *name, int columns, struct ib_items *items)
{
    *items = (struct ib_items){0};
    int rc = hold_buffer(object, &items->view) ? from_buffer(object, name, columns, items)
                                               : from_sequence(object, columns, items);
    if (rc < 0) {
        ib_items_release(items);
    }
    return rc;
}

void ib_items_release(struct ib_items *items)
{
    PyMem_Free(items->owned);
    if (items->view.obj != NULL) {
        PyBuffer_Release(&items->view);
    }
    *items = (struct ib_items){0};
}
