/*
 * empty.c - a type whose methods do nothing: what a call from Python costs at least.
 *
 * `two(a, b)` parses two unsigned 64-bit integers and returns None, in the cheapest way there is:
 * positional arguments only, this interpreter's full API, no range or state to check.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

static volatile unsigned long long parsed;

static PyObject *two(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    (void)self;
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "two() takes two integers");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < 2; i++) {
        unsigned long long value = PyLong_AsUnsignedLongLong(args[i]);
        if (value == (unsigned long long)-1 && PyErr_Occurred()) {
            return NULL;
        }
        parsed = value;
    }
    Py_RETURN_NONE;
}

static PyObject *none(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"two", (PyCFunction)(void (*)(void))two, METH_FASTCALL, "two(a, b)"},
    {"none", none, METH_NOARGS, "none()"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "empty.Empty",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "empty", .m_size = -1};

PyMODINIT_FUNC PyInit_empty(void);

PyMODINIT_FUNC PyInit_empty(void)
{
    PyObject *made = PyModule_Create(&module);
    PyObject *type = PyType_FromSpec(&spec);

    if (made == NULL || type == NULL || PyModule_AddObject(made, "Empty", type) < 0) {
        return NULL;
    }
    return made;
}
