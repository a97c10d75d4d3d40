/*
 * state.c - the state of one module object: how it is found, visited and given up.
 */
#include "python/module/module.h"

struct ib_state *ib_state_of_type(PyTypeObject *type)
{
    for (; type != NULL; type = PyType_GetSlot(type, Py_tp_base)) {
        if (!(PyType_GetFlags(type) & Py_TPFLAGS_HEAPTYPE)) {
            break;
        }
        PyObject *module = PyType_GetModule(type);
        struct PyModuleDef *definition = module == NULL ? NULL : PyModule_GetDef(module);
        if (definition != NULL && definition->m_free == ib_state_free) {
            return PyModule_GetState(module);
        }
        PyErr_Clear();
    }
    PyErr_SetString(PyExc_TypeError, "not a type of iovabitmap");
    return NULL;
}

int ib_state_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct ib_state *state = PyModule_GetState(module);

    Py_VISIT(state->bitmap_type);
    Py_VISIT(state->memory_type);
    Py_VISIT(state->window_iterator_type);
    Py_VISIT(state->range_iterator_type);
    Py_VISIT(state->diff_type);
    Py_VISIT(state->write_tracker_type);
    Py_VISIT(state->window_class);
    Py_VISIT(state->stats_class);
    Py_VISIT(state->pin_error);
    Py_VISIT(state->range_error);
    Py_VISIT(state->restore);
    Py_VISIT((PyObject *)state->ndarray);
    return 0;
}

int ib_state_clear(PyObject *module)
{
    struct ib_state *state = PyModule_GetState(module);
    PyObject *ndarray = (PyObject *)state->ndarray;

    state->ndarray = 0;
    Py_XDECREF(ndarray);

    Py_CLEAR(state->bitmap_type);
    Py_CLEAR(state->memory_type);
    Py_CLEAR(state->window_iterator_type);
    Py_CLEAR(state->range_iterator_type);
    Py_CLEAR(state->diff_type);
    Py_CLEAR(state->write_tracker_type);
    Py_CLEAR(state->window_class);
    Py_CLEAR(state->stats_class);
    Py_CLEAR(state->pin_error);
    Py_CLEAR(state->range_error);
    Py_CLEAR(state->restore);
    return 0;
}

void ib_state_free(void *module)
{
    ib_state_clear(module);
}
