/*
 * ring_device.c - an example: an extension module of its own package that marks a bitmap which
 * Python owns. It takes iovabitmap's table of functions when it is imported, and calls no Python
 * while it marks.
 *
 * pip install . builds it; pyproject.toml and setup.py say what that needs.
 *
 *     import numpy as np, iovabitmap, ring_device
 *     bm = iovabitmap.IOVABitmap(0x10000, 1 << 20, 4096)
 *     ring_device.write(bm, np.array([0x10000, 0x12fff], np.uint64), 2)  # 3: pages newly dirty
 */
#include <Python.h>

#include "iovabitmap_api.h"

#include <errno.h>
#include <string.h>

struct state {
    const struct iovabitmap_api *api;
};

/* Marks `length` bytes at each of `count` addresses, and adds to *newly the pages that were clean.
 * No Python: it runs without the interpreter. 0, or the negative errno of the mark that failed;
 * those before it stay. */
static int mark_all(const struct iovabitmap_api *api, struct iova_bitmap *bitmap,
                    const char *addresses, Py_ssize_t count, uint64_t length, uint64_t *newly)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        struct iova_bitmap_report report;
        uint64_t iova;

        memcpy(&iova, addresses + i * (Py_ssize_t)sizeof(iova), sizeof(iova));
        int rc = api->set(bitmap, iova, length, IOVA_BITMAP_COUNT, &report);
        if (rc < 0) {
            return rc;
        }
        *newly += report.pages;
    }
    return 0;
}

/* Borrows the addresses: 0, or -1 and a Python exception. */
static int get_addresses(PyObject *object, Py_buffer *view)
{
    if (PyObject_GetBuffer(object, view, PyBUF_ND | PyBUF_FORMAT) < 0) {
        return -1;
    }
    const char *format = view->format == NULL ? "B" : view->format;
    if (view->itemsize == sizeof(uint64_t) &&
        (strcmp(format, "L") == 0 || strcmp(format, "Q") == 0)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "addresses are of type uint64, not '%s'", format);
    PyBuffer_Release(view);
    return -1;
}

PyDoc_STRVAR(write_doc,
             "write(bitmap, addresses, length)\n--\n\n"
             "Mark `length` bytes at each of `addresses`, an array of uint64, in an IOVABitmap.\n\n"
             "Returns how many pages were clean before. OSError where a mark does not fit: those\n"
             "before it stay. ValueError where the bitmap is freed.");

static PyObject *write_(PyObject *module, PyObject *args)
{
    const struct iovabitmap_api *api = ((struct state *)PyModule_GetState(module))->api;
    struct iovabitmap_held held;
    PyObject *bitmap, *addresses, *number;
    unsigned long long length;
    uint64_t newly = 0;
    Py_buffer view;

    if (!PyArg_ParseTuple(args, "OOO!", &bitmap, &addresses, &PyLong_Type, &number)) {
        return NULL;
    }
    length = PyLong_AsUnsignedLongLong(number); /* "K" would cut it to 64 bits without a word */
    if ((length == (unsigned long long)-1 && PyErr_Occurred()) ||
        get_addresses(addresses, &view) < 0) {
        return NULL;
    }
    if (api->acquire(bitmap, &held) < 0) {
        PyBuffer_Release(&view);
        return NULL;
    }
    PyThreadState *thread = PyEval_SaveThread(); /* others run Python meanwhile */
    int rc = mark_all(api, held.bitmap, view.buf, view.len / view.itemsize, length, &newly);
    PyEval_RestoreThread(thread);
    api->release(&held);
    PyBuffer_Release(&view);
    if (rc < 0) {
        errno = -rc;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromUnsignedLongLong(newly);
}

/* Takes the table, and refuses one that this was not compiled for. */
static int exec(PyObject *module)
{
    const struct iovabitmap_api *api = PyCapsule_Import(IOVABITMAP_API_CAPSULE, 0);

    if (api == NULL) {
        return -1;
    }
    if (!iovabitmap_api_fits(api)) {
        PyErr_Format(PyExc_ImportError,
                     "iovabitmap's C interface is version %u of %u bytes; ring_device was built "
                     "for version %d of at least %zu",
                     api->version, api->size, IOVABITMAP_API_VERSION, sizeof(*api));
        return -1;
    }
    ((struct state *)PyModule_GetState(module))->api = api;
    return 0;
}

static PyMethodDef methods[] = {
    {"write", write_, METH_VARARGS, write_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "ring_device",
    .m_doc = "A device model that marks what it writes in an IOVABitmap.",
    .m_size = sizeof(struct state),
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit_ring_device(void)
{
    return PyModuleDef_Init(&definition);
}
