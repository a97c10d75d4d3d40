/*
 * args.c - argument parsing for METH_FASTCALL | METH_KEYWORDS: the limited API has none.
 */
#include "python/exchange/exchange.h"

static int find(const struct ib_signature *signature, PyObject *keyword)
{
    for (int i = 0; i < signature->total; i++) {
        if (PyUnicode_CompareWithASCIIString(keyword, signature->names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

int ib_parse(const struct ib_signature *signature, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames, PyObject **out)
{
    Py_ssize_t nkeywords = kwnames == NULL ? 0 : PyTuple_Size(kwnames);

    if (nargs > signature->positional) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional arguments (%zd given)",
                     signature->name, signature->positional, nargs);
        return -1;
    }
    for (int i = 0; i < signature->total; i++) {
        out[i] = i < nargs ? args[i] : NULL;
    }
    for (Py_ssize_t i = 0; i < nkeywords; i++) {
        PyObject *keyword = PyTuple_GetItem(kwnames, i);
        int at = find(signature, keyword);
        if (at < 0) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'",
                         signature->name, keyword);
            return -1;
        }
        if (out[at] != NULL) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'",
                         signature->name, keyword);
            return -1;
        }
        out[at] = args[nargs + i];
    }
    for (int i = 0; i < signature->required; i++) {
        if (out[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s' (pos %d)",
                         signature->name, signature->names[i], i + 1);
            return -1;
        }
    }
    return 0;
}

static void raise_too_large(PyObject *integer, const char *name)
{
    PyObject *text = PyObject_Str(integer);

    if (text == NULL) { /* of too many digits to be shown */
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "%s must be 0 to 2**64 - 1", name);
        return;
    }
    PyErr_Format(PyExc_ValueError, "%s must be 0 to 2**64 - 1, not %.60U%s", name, text,
                 PyUnicode_GetLength(text) > 60 ? "..." : "");
    Py_DECREF(text);
}

static int from_int(PyObject *integer, const char *name, uint64_t *value)
{
    *value = PyLong_AsUnsignedLongLong(integer);
    if (*value == UINT64_MAX && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            raise_too_large(integer, name);
        }
        return -1;
    }
    return 0;
}

int ib_u64(PyObject *object, const char *name, uint64_t *value)
{
    if (ib_exact_u64(object, value)) {
        return 0;
    }
    if (PyLong_Check(object)) {
        return from_int(object, name, value);
    }
    if (!PyIndex_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be an int, not %R", name, Py_TYPE(object));
        return -1;
    }
    PyObject *integer = PyNumber_Index(object);
    int rc = integer == NULL ? -1 : from_int(integer, name, value);
    Py_XDECREF(integer);
    return rc;
}
