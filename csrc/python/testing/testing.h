/*
 * testing.h - what iovabitmap.testing needs in C.
 */
#ifndef IB_TESTING_H
#define IB_TESTING_H

#include "python/exchange/exchange.h"

/* stamp.c */
extern const char ib_doc_stamp[];
PyObject *ib_stamp(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

#endif
