/*
 * pin_object.c - choosing a pin backend from Python, and a Python object as one.
 *
 * The engine knows errnos only: an exception that the object raises stays the current exception,
 * and the errno handed down merely ends the operation. ib_raise looks at the exception.
 */
#include "python/exchange/exchange.h"

#include <errno.h>
#include <string.h>

/* What pin() returned as a number for the engine, which refuses 0 as a lie. */
static int64_t delivered(PyObject *result)
{
    PyObject *integer = PyNumber_Index(result);
    if (integer == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "pin() must return an int, not %R", Py_TYPE(result));
        }
        return -ECANCELED;
    }
    long long npages = PyLong_AsLongLong(integer);
    Py_DECREF(integer);
    if (npages == -1 && PyErr_Occurred()) { /* beyond any number of pages */
        PyErr_Clear();
    }
    return npages > 0 ? (int64_t)npages : 0;
}

/* May run while an exception is on its way: what is undone after a failure is pinned too. That
 * first exception stays, whatever comes of this. */
static int64_t object_pin(void *context, uintptr_t address, uint64_t npages,
                          enum iova_bitmap_access access)
{
    PyObject *object = context;
    PyObject *pending = ib_take_exception();
    int64_t got = -ECANCELED;
    (void)access;

    PyObject *result = PyObject_CallMethod(object, "pin", "KK", (unsigned long long)address,
                                           (unsigned long long)npages);
    if (result != NULL) {
        got = delivered(result);
        Py_DECREF(result);
    }
    if (pending != NULL) {
        PyErr_Clear();
        ib_put_exception(pending, NULL);
    }
    return got;
}

/* May run while an exception is on its way, and in a destructor: has none of its own. */
static void object_unpin(void *context, uintptr_t address, uint64_t npages)
{
    PyObject *object = context;
    PyObject *pending = ib_take_exception();
    PyObject *result = PyObject_CallMethod(object, "unpin", "KK", (unsigned long long)address,
                                           (unsigned long long)npages);
    if (result == NULL) {
        PyErr_WriteUnraisable(object);
    }
    Py_XDECREF(result);
    ib_put_exception(pending, NULL);
}

static const struct iova_bitmap_pin_ops object_ops = {.pin = object_pin, .unpin = object_unpin};

/* 1 where the object has a method of that name, 0 where not, -1 and an exception. */
static int has_method(PyObject *object, const char *name)
{
    PyObject *method = PyObject_GetAttrString(object, name);
    if (method == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    int callable = PyCallable_Check(method);
    Py_DECREF(method);
    return callable;
}

static int named_ops(PyObject *name, const struct iova_bitmap_pin_ops **ops)
{
    PyObject *bytes = PyUnicode_AsEncodedString(name, "utf-8", "backslashreplace");
    if (bytes == NULL) {
        return -1;
    }
    const char *text = PyBytes_AsString(bytes);
    bool whole = strlen(text) == (size_t)PyBytes_Size(bytes); /* no NUL inside */
    int rc = whole ? iova_bitmap_pin_backend(text, ops) : -EINVAL;
    Py_DECREF(bytes);
    if (rc == -ENOTSUP) {
        PyErr_Format(PyExc_NotImplementedError, "pin=%R is not available on this platform%s", name,
                     PyUnicode_CompareWithASCIIString(name, "populate") == 0
                         ? " (it needs MADV_POPULATE_WRITE, Linux 5.14)"
                         : "");
    } else if (rc < 0) {
        PyErr_Format(PyExc_ValueError,
                     "pin must be 'none', 'populate', 'mlock' or an object with pin and unpin, "
                     "not %R",
                     name);
    }
    return rc < 0 ? -1 : 0;
}

int ib_pin_options(PyObject *pin, struct iova_bitmap_options *options)
{
    if (PyUnicode_Check(pin)) {
        return named_ops(pin, &options->pin);
    }
    int has_pin = has_method(pin, "pin");
    int has_unpin = has_pin > 0 ? has_method(pin, "unpin") : has_pin;
    if (has_unpin < 0) {
        return -1;
    }
    if (has_unpin == 0) {
        PyErr_Format(PyExc_TypeError,
                     "pin must be a str or an object with the methods pin and unpin, not %R",
                     Py_TYPE(pin));
        return -1;
    }
    options->pin = &object_ops;
    options->pin_context = pin;
    return 0;
}
