/*
 * exchange.h - what goes over the border: arguments, buffers of others, errors, memory, arrays and
 * pin objects. Nothing here knows a bitmap object.
 */
#ifndef IB_EXCHANGE_H
#define IB_EXCHANGE_H

#include "iova_bitmap.h"
#include "python/module/module.h"

/* ---- arguments (args.c) ---- */

/* The arguments of one function, for error messages and lookup by name. */
struct ib_signature {
    const char *name;
    int required;   /* the first so many have no default */
    int positional; /* the first so many can be given by position */
    int total;
    const char *const *names;
};

/* Sorts a METH_FASTCALL | METH_KEYWORDS call into out[total], NULL where not given. 0 or -1. */
int ib_parse(const struct ib_signature *signature, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames, PyObject **out);

/* An int of 0 to 2**64 - 1: TypeError without __index__, ValueError outside. 0 or -1. */
int ib_u64(PyObject *object, const char *name, uint64_t *value);

/* Adds `flag` to *flags if the object, which may be NULL, is true. 0 or -1. */
static inline int ib_flag(PyObject *object, unsigned flag, unsigned *flags)
{
    int given = object == NULL ? 0 : PyObject_IsTrue(object);

    *flags |= given > 0 ? flag : 0;
    return given < 0 ? -1 : 0;
}

/* The same as ib_u64 for the common case, in few steps; false, and no exception, for any other. */
static inline bool ib_exact_u64(PyObject *object, uint64_t *value)
{
    if (!PyLong_CheckExact(object)) {
        return false;
    }
#if ULONG_MAX == UINT64_MAX
    *value = PyLong_AsUnsignedLong(object); /* the faster one */
#else
    *value = PyLong_AsUnsignedLongLong(object);
#endif
    if (*value == UINT64_MAX) {
        PyErr_Clear();
    }
    return *value != UINT64_MAX;
}

/* In a loop of many short steps: runs the handlers of signals at some of them. 0, or -1 and an
 * exception. */
static inline int ib_poll_each(uint64_t step)
{
    return (step & 0x3fff) == 0x3fff ? PyErr_CheckSignals() : 0;
}

/* ---- buffers of others (foreign.c) ---- */

enum { IB_LAYOUT_DIMENSIONS = 2 };

/* How the items of a buffer lie, as far as it has no more dimensions than these. */
struct ib_layout {
    int ndim;
    Py_ssize_t shape[IB_LAYOUT_DIMENSIONS];
    Py_ssize_t strides[IB_LAYOUT_DIMENSIONS]; /* in bytes */
    bool packed;                              /* in C order without gaps */
};

/* BufferError and -1 where a buffer contradicts itself or what was asked for. */
int ib_foreign_check(const Py_buffer *view, bool writable);
/* The layout of a buffer that was checked: without strides it is in C order, without a shape of one
 * dimension. Where it has more dimensions than a layout only their number is set. */
int ib_foreign_layout(const Py_buffer *view, struct ib_layout *layout);
/* Whether a buffer's format (NULL: bytes) says that it holds references to Python objects. */
bool ib_format_has_objects(const char *format);

/* ---- array arguments (items.c) ---- */

/* `count` rows of one or two uint64_t. */
struct ib_items {
    const uint64_t *items;
    uint64_t count;
    uint64_t *owned; /* where they had to be converted */
    Py_buffer view;
};

/* From a buffer of integers of shape (n,) or (n, 2), or a sequence. TypeError, or ValueError that
 * names the row. 0 or -1; release after 0. */
int ib_items_get(PyObject *object, const char *name, int columns, struct ib_items *items);
void ib_items_release(struct ib_items *items);
/* Puts the row before the message of the current exception, which is ours; its attributes stay. */
void ib_name_row(uint64_t row);

/* ---- errors (errors.c) ---- */

int ib_add_exceptions(PyObject *module, struct ib_state *state);

/*
 * Raises what a failed engine call means, and returns NULL: the exception that a pin object raised,
 * as the cause of a PinError where it is an OSError; a PinError where the report says that a part
 * was not done; else an IOVARangeError for the range that was asked for, or MemoryError.
 */
PyObject *ib_raise(struct ib_state *state, const struct iova_bitmap_geometry *geometry, int error,
                   const struct iova_bitmap_report *report, uint64_t iova, uint64_t length);

/* The current exception, normalized, with its traceback; NULL where there is none. And back again:
 * takes over the reference, and `cause`, which may be NULL and stays the caller's. */
PyObject *ib_take_exception(void);
void ib_put_exception(PyObject *exception, PyObject *cause);

/* ValueError for a geometry that the engine refuses. */
void ib_raise_geometry(int error, uint64_t iova, uint64_t length, uint64_t page_size);

/* ---- the bytes of a bitmap or an array (memory.c) ---- */

extern PyType_Spec ib_memory_spec;

/* Holds the one Py_buffer of a caller's object: contiguous, and writable where `writable`. */
PyObject *ib_memory_from_object(struct ib_state *state, PyObject *object, bool writable);
/* Zeroed memory of its own, page-aligned where it fills a page. */
PyObject *ib_memory_zeroed(struct ib_state *state, uint64_t size);
/* Takes over memory that `release` gives back, also where this fails. */
PyObject *ib_memory_adopt(struct ib_state *state, void *bytes, uint64_t size,
                          void (*release)(void *));
/* Gives such an object other memory; what it had is the caller's again. */
void ib_memory_give(PyObject *memory, void *bytes, uint64_t size);
/* Gives up a bitmap's reference: at once nobody holds the caller's buffer, unless by an array. */
void ib_memory_let_go(PyObject **memory);
/* Something that holds a reference stands over the bytes: they stay as long as it does. */
void ib_memory_lend(PyObject *memory);
uint8_t *ib_memory_bytes(PyObject *memory);
uint64_t ib_memory_size(PyObject *memory);

/* A writable array over the memory from its first byte on, which it keeps alive. `columns` 0: of
 * one dimension. */
PyObject *ib_array(struct ib_state *state, PyObject *memory, const char *dtype, uint64_t rows,
                   uint64_t columns);
/* The same over memory that is given up to the array, also where this fails; NULL: none. */
PyObject *ib_array_of(struct ib_state *state, PyObject *memory, const char *dtype, uint64_t rows,
                      uint64_t columns);

/* ---- pin backends (pin_object.c) ---- */

/* The backend that `pin` names or is, and its context; -1 and an exception where there is none. The
 * context of a pin object is that object, which must live as long as it is used. */
int ib_pin_options(PyObject *pin, struct iova_bitmap_options *options);

#endif
