/*
 * items.c - array arguments: rows (iova, length) or addresses, from anything that holds integers.
 *
 * Native uint64 in order is used where it lies. Other integers are converted one by one, and a bad
 * one is named by its row, counted from 0. A list, or whatever is no buffer, is read as a sequence.
 */
#include "python/module/binding.h"

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
                   format[1] == '\0' && view->itemsize >= 1 && view->itemsize <= 8;
    return integer ? *format : '\0';
}

/* Fills items->owned from a buffer in any order and of any integers. */
static int convert(struct ib_items *items, const char *name, int columns)
{
    const Py_buffer *view = &items->view;
    bool swap;
    char code = integer_code(view, &swap);

    if (code == '\0') {
        PyErr_Format(PyExc_TypeError, "%s must hold integers, not '%s'", name, view->format);
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
            const char *at = (const char *)view->buf + (Py_ssize_t)row * view->strides[0];
            int64_t negative;
            if (columns == 2) {
                at += column * view->strides[1];
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

static int from_buffer(PyObject *object, const char *name, int columns, struct ib_items *items)
{
    Py_buffer *view = &items->view;

    if (PyObject_GetBuffer(object, view, PyBUF_STRIDES | PyBUF_FORMAT) < 0) {
        return -1;
    }
    bool empty = view->len == 0;
    if (!empty && (view->ndim != columns || (columns == 2 && view->shape[1] != 2))) {
        return bad_shape(name, columns);
    }
    items->count = empty ? 0 : (uint64_t)view->shape[0];
    if (empty) {
        return 0;
    }
    bool swap;
    char code = integer_code(view, &swap);
    if (code != '\0' && strchr("LQN", code) != NULL && view->itemsize == 8 && !swap &&
        PyBuffer_IsContiguous(view, 'C') && (uintptr_t)view->buf % sizeof(uint64_t) == 0) {
        items->items = view->buf;
        return 0;
    }
    return convert(items, name, columns);
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

static int read_row(PyObject *row, int columns, uint64_t *out)
{
    if (columns == 1) {
        return ib_u64(row, "iova", out);
    }
    PyObject *pair = PySequence_Tuple(row);
    int rc = -1;
    if (pair != NULL && PyTuple_Size(pair) != 2) {
        PyErr_Format(PyExc_ValueError, "must be (iova, length), not %zd values",
                     PyTuple_Size(pair));
    } else if (pair != NULL) {
        rc = ib_u64(PyTuple_GetItem(pair, 0), "iova", &out[0]) < 0 ||
                     ib_u64(PyTuple_GetItem(pair, 1), "length", &out[1]) < 0
                 ? -1
                 : 0;
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
        rc = read_row(PyTuple_GetItem(rows, (Py_ssize_t)i), columns,
                      items->owned + i * (unsigned)columns);
        if (rc < 0) {
            ib_name_row(i);
        } else {
            rc = ib_poll_each(i);
        }
    }
    Py_DECREF(rows);
    items->items = items->owned;
    return rc;
}

/* Memory of references to Python objects is read as a sequence of those. */
static bool holds_objects(PyObject *object)
{
    Py_buffer view;

    if (PyObject_GetBuffer(object, &view, PyBUF_STRIDES | PyBUF_FORMAT) < 0) {
        PyErr_Clear();
        return true;
    }
    bool objects = ib_format_has_objects(view.format);
    PyBuffer_Release(&view);
    return objects;
}

int ib_items_get(PyObject *object, const char *name, int columns, struct ib_items *items)
{
    *items = (struct ib_items){0};
    int rc = PyObject_CheckBuffer(object) && !holds_objects(object)
                 ? from_buffer(object, name, columns, items)
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
