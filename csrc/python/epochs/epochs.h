/*
 * epochs.h - what iovabitmap.logs and iovabitmap.analysis ask of many rows at once.
 */
#ifndef IB_EPOCHS_H
#define IB_EPOCHS_H

#include "python/exchange/exchange.h"

/* epochs.c */
extern const char ib_doc_first_bad_row[], ib_doc_add_history[], ib_doc_add_hits[], ib_doc_add_map[];
PyObject *ib_first_bad_row(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
PyObject *ib_add_history(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
PyObject *ib_add_hits(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
PyObject *ib_add_map(PyObject *module, PyObject *const *args, Py_ssize_t nargs);

#endif
