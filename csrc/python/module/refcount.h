/*
 * refcount.h - counts references by the interpreter's functions where one binary serves every
 * CPython.
 *
 * The macros of a header know the objects that are immortal in that version, and no later way to
 * mark them: inlined by 3.11, each None that a call returns would be counted on 3.14, where nobody
 * takes the count back, until None is mortal again. The functions are those of the interpreter that
 * runs. From 3.12 on the headers call them by themselves.
 */
#ifndef IB_REFCOUNT_H
#define IB_REFCOUNT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if defined(Py_LIMITED_API) && Py_LIMITED_API + 0 < 0x030C0000

#undef Py_INCREF
#undef Py_XINCREF
#undef Py_DECREF
#undef Py_XDECREF
#undef Py_NewRef
#undef Py_XNewRef
#undef Py_CLEAR
#undef Py_RETURN_NONE
#undef Py_RETURN_NOTIMPLEMENTED
#undef Py_RETURN_TRUE
#undef Py_RETURN_FALSE

#define Py_INCREF(object) Py_IncRef((PyObject *)(object))
#define Py_XINCREF(object) Py_IncRef((PyObject *)(object))
#define Py_DECREF(object) Py_DecRef((PyObject *)(object))
#define Py_XDECREF(object) Py_DecRef((PyObject *)(object))
#define Py_NewRef(object) (Py_NewRef)((PyObject *)(object))
#define Py_XNewRef(object) (Py_XNewRef)((PyObject *)(object))
#define Py_CLEAR(object)                                                                           \
    do {                                                                                           \
        PyObject *cleared_ = (PyObject *)(object);                                                 \
        (object) = NULL; /* before anything that the last reference's end runs */                  \
        Py_DecRef(cleared_);                                                                       \
    } while (0)
#define Py_RETURN_NONE return Py_NewRef(Py_None)
#define Py_RETURN_NOTIMPLEMENTED return Py_NewRef(Py_NotImplemented)
#define Py_RETURN_TRUE return Py_NewRef(Py_True)
#define Py_RETURN_FALSE return Py_NewRef(Py_False)

#endif

/* None, counted: a method that has nothing to say returns it. */
static inline PyObject *ib_none(void)
{
    return Py_NewRef(Py_None);
}

#endif
