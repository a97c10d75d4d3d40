/*
 * errors.c - the exceptions, and the one place where an errno of the engine becomes one.
 */
#include "python/exchange/exchange.h"

#include <errno.h>
#include <string.h>

PyDoc_STRVAR(
    pin_error_doc,
    "A window's pages could not be made present.\n\n"
    "An OSError with the errno of the pin backend. Everything before `iova` was done; the\n"
    "same call can be repeated.\n\n"
    "Attributes\n"
    "----------\n"
    "iova : int\n    First address that was not recorded (or read).\n"
    "length : int\n    Bytes of IOVA from there to the end of the range.\n"
    "newly : int\n    Pages that the call did record, for the first time.\n");

PyDoc_STRVAR(range_error_doc, "A range of addresses is not inside the bitmap. Nothing was done.\n\n"
                              "Attributes\n"
                              "----------\n"
                              "iova : int\n    Start of the range that was asked for.\n"
                              "length : int\n    Its length in bytes.\n");

/* The attributes are class attributes of value 0 until an exception has its own. */
static PyObject *make_exception(PyObject *module, const char *full_name, const char *doc,
                                PyObject *base, const char *const *attributes)
{
    PyObject *dict = PyDict_New();
    PyObject *zero = PyLong_FromLong(0);
    PyObject *exception = NULL;
    int rc = dict == NULL || zero == NULL ? -1 : 0;

    for (; rc == 0 && *attributes != NULL; attributes++) {
        rc = PyDict_SetItemString(dict, *attributes, zero);
    }
    if (rc == 0) {
        exception = PyErr_NewExceptionWithDoc(full_name, doc, base, dict);
    }
    if (exception != NULL &&
        PyModule_AddObjectRef(module, strrchr(full_name, '.') + 1, exception) < 0) {
        Py_CLEAR(exception);
    }
    Py_XDECREF(dict);
    Py_XDECREF(zero);
    return exception;
}

int ib_add_exceptions(PyObject *module, struct ib_state *state)
{
    static const char *const pin_attributes[] = {"iova", "length", "newly", NULL};
    static const char *const range_attributes[] = {"iova", "length", NULL};

    state->pin_error =
        make_exception(module, "iovabitmap.PinError", pin_error_doc, PyExc_OSError, pin_attributes);
    if (state->pin_error == NULL) {
        return -1;
    }
    state->range_error = make_exception(module, "iovabitmap.IOVARangeError", range_error_doc,
                                        PyExc_ValueError, range_attributes);
    return state->range_error == NULL ? -1 : 0;
}

#define EVERYTHING "0x10000000000000000" /* 2**64, the length of all addresses */

static int set_u64(PyObject *object, const char *name, uint64_t value)
{
    PyObject *integer = PyLong_FromUnsignedLongLong(value);
    int rc = integer == NULL ? -1 : PyObject_SetAttrString(object, name, integer);

    Py_XDECREF(integer);
    return rc;
}

PyObject *ib_take_exception(void)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
    }
    Py_DECREF(type);
    Py_XDECREF(traceback);
    return value;
}

void ib_put_exception(PyObject *exception, PyObject *cause)
{
    if (exception == NULL) {
        return;
    }
    if (cause != NULL) {
        PyException_SetCause(exception, Py_NewRef(cause));
        PyException_SetContext(exception, Py_NewRef(cause));
    }
    PyObject *traceback = PyException_GetTraceback(exception);
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exception)), exception, traceback);
}

/* Of a range that is an error: a length of 0 never is, and stands for 2**64, all from 0 on. */
static bool is_everything(uint64_t iova, uint64_t length)
{
    return iova == 0 && length == 0;
}

static int set_length(PyObject *object, uint64_t iova, uint64_t length)
{
    if (!is_everything(iova, length)) {
        return set_u64(object, "length", length);
    }
    PyObject *integer = PyLong_FromString(EVERYTHING, NULL, 0);
    int rc = integer == NULL ? -1 : PyObject_SetAttrString(object, "length", integer);
    Py_XDECREF(integer);
    return rc;
}

/* Raises an exception that a constructor made, with its place. */
static void raise_at(PyObject *exception, uint64_t iova, uint64_t length, PyObject *cause)
{
    if (exception != NULL &&
        (set_u64(exception, "iova", iova) < 0 || set_length(exception, iova, length) < 0)) {
        Py_CLEAR(exception);
    }
    ib_put_exception(exception, cause);
}

/* The errno of an OSError; EIO where it has none. */
static int errno_of(PyObject *os_error)
{
    PyObject *number = PyObject_GetAttrString(os_error, "errno");
    long value = number != NULL && PyLong_Check(number) ? PyLong_AsLong(number) : 0;

    Py_XDECREF(number);
    PyErr_Clear();
    return value > 0 && value <= INT_MAX ? (int)value : EIO;
}

static void raise_pin_error(struct ib_state *state, int error,
                            const struct iova_bitmap_report *report, PyObject *cause)
{
    char place[64];
    PyOS_snprintf(place, sizeof(place), "0x%llx (+0x%llx)", (unsigned long long)report->iova,
                  (unsigned long long)report->length);
    PyObject *message =
        PyUnicode_FromFormat("%s: the bitmap of %s could not be pinned", strerror(error), place);
    if (message == NULL) {
        return;
    }
    PyObject *exception = PyObject_CallFunction(state->pin_error, "iO", error, message);
    Py_DECREF(message);
    if (exception != NULL && set_u64(exception, "newly", report->pages) < 0) {
        Py_CLEAR(exception);
    }
    raise_at(exception, report->iova, report->length, cause);
}

/* The current exception came from the handler of a signal: it propagates, and says where a change
 * ended, as a PinError does, if it can take the attributes. */
static void raise_interrupted(const struct iova_bitmap_report *report)
{
    PyObject *exception = ib_take_exception();

    if (report->length != 0 && (set_u64(exception, "iova", report->iova) < 0 ||
                                set_u64(exception, "length", report->length) < 0)) {
        PyErr_Clear();
    }
    ib_put_exception(exception, NULL);
}

/* The current exception came from a pin object. */
static void raise_from_pin_object(struct ib_state *state, const struct iova_bitmap_report *report)
{
    if (PyErr_ExceptionMatches(PyExc_OSError)) { /* any other propagates as it is */
        PyObject *cause = ib_take_exception();
        raise_pin_error(state, errno_of(cause), report, cause);
        Py_DECREF(cause);
    }
}

static void raise_range_error(struct ib_state *state, const struct iova_bitmap_geometry *geometry,
                              int error, uint64_t iova, uint64_t length)
{
    char text[160];
    if (error == -EOVERFLOW) {
        PyOS_snprintf(text, sizeof(text), "range 0x%llx (+0x%llx) ends beyond 2**64",
                      (unsigned long long)iova, (unsigned long long)length);
    } else {
        char nbytes[24] = EVERYTHING;
        if (!is_everything(iova, length)) {
            PyOS_snprintf(nbytes, sizeof(nbytes), "0x%llx", (unsigned long long)length);
        }
        PyOS_snprintf(text, sizeof(text),
                      "range 0x%llx (+%s) is not inside the bitmap's 0x%llx to 0x%llx",
                      (unsigned long long)iova, nbytes, (unsigned long long)geometry->iova,
                      (unsigned long long)geometry->last);
    }
    raise_at(PyObject_CallFunction(state->range_error, "s", text), iova, length, NULL);
}

PyObject *ib_raise(struct ib_state *state, const struct iova_bitmap_geometry *geometry, int error,
                   const struct iova_bitmap_report *report, uint64_t iova, uint64_t length)
{
    if (PyErr_Occurred() && error == -EINTR) {
        raise_interrupted(report);
    } else if (PyErr_Occurred()) {
        raise_from_pin_object(state, report);
    } else if (report->length != 0) {
        raise_pin_error(state, -error, report, NULL);
    } else if (error == -ERANGE || error == -EOVERFLOW) {
        raise_range_error(state, geometry, error, iova, length);
    } else {
        PyErr_NoMemory();
    }
    return NULL;
}

void ib_raise_geometry(int error, uint64_t iova, uint64_t length, uint64_t page_size)
{
    char text[96];
    if (error == -EOVERFLOW) {
        PyOS_snprintf(text, sizeof(text), "range 0x%llx (+0x%llx) ends beyond 2**64",
                      (unsigned long long)iova, (unsigned long long)length);
        PyErr_SetString(PyExc_ValueError, text);
    } else if (length == 0) {
        PyErr_SetString(PyExc_ValueError, "length must be 1 to 2**64 - 1, not 0");
    } else {
        PyErr_Format(PyExc_ValueError, "page_size must be a power of two from 1 to 2**63, not %llu",
                     (unsigned long long)page_size);
    }
}
