/*
 * module.h - what every file of the extension module iovabitmap._core builds on: Python.h with
 * references counted by functions, words that threads share, and the module's state.
 *
 * The binding parses arguments, calls the engine and turns what comes back into Python objects. It
 * decides nothing about bitmaps: that is csrc/core. Built against the limited API of CPython 3.11
 * unless setup.py says otherwise.
 */
#ifndef IB_MODULE_H
#define IB_MODULE_H

#include "python/module/refcount.h"
#include "python/module/shared.h"

#include <structmember.h>

/* One for each module object, so that interpreters share nothing. */
struct ib_state {
    PyTypeObject *bitmap_type;
    PyTypeObject *memory_type;
    PyTypeObject *window_iterator_type;
    PyTypeObject *range_iterator_type;
    PyTypeObject *diff_type;
    PyTypeObject *write_tracker_type;
    PyObject *window_class; /* named tuples */
    PyObject *stats_class;
    PyObject *pin_error;
    PyObject *range_error;
    PyObject *restore; /* rebuilds a pickled bitmap */
    uintptr_t ndarray; /* numpy.ndarray once an array was asked for, else 0 */
};

/* The state behind one of the module's types or a subclass; NULL and TypeError. */
struct ib_state *ib_state_of_type(PyTypeObject *type);

/* Those of the module's definition; the last also tells a module of ours from others. */
int ib_state_traverse(PyObject *module, visitproc visit, void *arg);
int ib_state_clear(PyObject *module);
void ib_state_free(void *module);

#endif
