/*
 * sources.h - what iovabitmap.sources is made from: comparing memory, and the write tracker.
 */
#ifndef IB_SOURCES_H
#define IB_SOURCES_H

#include "python/threads/threads.h"

/* snapshot.c */
extern const char ib_doc_changed_pages[];
PyObject *ib_changed_pages(PyObject *module, PyObject *const *args, Py_ssize_t nargs);

/* write_tracker.c */
extern PyType_Spec ib_write_tracker_spec;

#endif
