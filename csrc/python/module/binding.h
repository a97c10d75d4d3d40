/*
 * binding.h - what the files of the extension module iovabitmap._core share.
 *
 * The binding parses arguments, calls the engine and turns what comes back into Python objects. It
 * decides nothing about bitmaps: that is csrc/core. Built against the limited API of CPython 3.11
 * unless setup.py says otherwise.
 */
#ifndef IB_BINDING_H
#define IB_BINDING_H

#include "python/module/refcount.h"

#include <structmember.h>

#include <stdbool.h>
#include <stdint.h>

#include "iova_bitmap.h"
#include "python/threads/sync.h"

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
    uintptr_t ndarray; /* numpy.ndarray, once the first array was asked for; else 0 */
};

/* The state behind one of the module's types or a subclass; NULL and TypeError. */
struct ib_state *ib_state_of_type(PyTypeObject *type);

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

/* Array arguments (items.c): `count` rows of one or two uint64_t. */
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

/* ---- the bytes of a bitmap or an array (memory_type.c) ---- */

extern PyType_Spec ib_memory_spec;

/* Holds the one Py_buffer of a caller's object: contiguous, and writable where `writable`. */
PyObject *ib_memory_from_object(struct ib_state *state, PyObject *object, bool writable);
/* True where a buffer's format (NULL: bytes) says that it holds references to Python objects. */
bool ib_format_has_objects(const char *format);
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

/* ---- for other C code (capi.c) ---- */

int ib_add_capi(PyObject *module);

/* ---- comparing memory (snapshot.c) ---- */

extern const char ib_doc_changed_pages[];
PyObject *ib_changed_pages(PyObject *module, PyObject *const *args, Py_ssize_t nargs);

/* ---- the bitmap (bitmap_*.c) ---- */

struct ib_bitmap {
    PyObject_HEAD PyObject *weakrefs;
    struct ib_state *state;     /* of the module that the type belongs to, which it keeps alive */
    struct iova_bitmap *engine; /* NULL only where making it failed */
    PyObject *memory;           /* NULL once released */
    PyObject *pin;              /* a str, or the pin object */
    uintptr_t uses;             /* IB_USE for each operation in progress, and what follows */
    struct ib_queue queue;      /* who waits for the release, or for the present window */
    uint64_t unlock_length;     /* marking so many bytes of IOVA is done without the GIL */
    uintptr_t mover;            /* the thread whose operation has the present window, or 0 */
    uintptr_t mover_process;    /* whose thread that is or was: a child of fork() has it not */
    int process;                /* that made it */
#ifdef Py_GIL_DISABLED
    PyMutex present;           /* held by the mover */
    uintptr_t present_process; /* whose threads have tried to lock it */
#endif
};

/* Of ib_bitmap.uses. Once freed no operation begins; the one that ends last releases. */
enum { IB_FREED = 1, IB_RELEASED = 2, IB_USE = 4 };

/* Operations of this thread in progress, on any bitmaps. */
#if defined(__GLIBC__)
extern IB_PER_THREAD __attribute__((tls_model("initial-exec"))) unsigned ib_depth;
#else
extern IB_PER_THREAD unsigned ib_depth;
#endif

extern PyType_Spec ib_bitmap_spec;
extern const char ib_doc_alloc[];
PyObject *ib_alloc(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

/* A new bitmap of `type` over a memory object (of the type above). window_pages 0: the default. */
struct ib_bitmap *ib_bitmap_make(PyTypeObject *type, struct ib_state *state,
                                 const struct iova_bitmap_geometry *geometry, PyObject *memory,
                                 uint64_t window_pages, PyObject *pin);

/* The same with pin="none", as copies have. */
struct ib_bitmap *ib_bitmap_over(PyTypeObject *type, struct ib_state *state,
                                 const struct iova_bitmap_geometry *geometry, PyObject *memory,
                                 uint64_t window_pages);

static inline bool ib_bitmap_is_freed(const struct ib_bitmap *self)
{
    return (ib_shared_get(&self->uses) & IB_FREED) != 0;
}

/* ValueError; -1. */
int ib_raise_freed(void);

/* -1 and ValueError on a freed bitmap. */
static inline int ib_bitmap_check(const struct ib_bitmap *self)
{
    return ib_bitmap_is_freed(self) ? ib_raise_freed() : 0;
}

/* Lets go of window and memory, once, where no operation is running. Keeps the exception. */
void ib_bitmap_release(struct ib_bitmap *self);

/* An operation that calls the engine stands between begin (0, or -1 and ValueError) and end: what
 * it uses stays until the last has ended, whoever frees the bitmap meanwhile. */
static inline int ib_bitmap_begin(struct ib_bitmap *self)
{
    uintptr_t uses;

    do {
        uses = ib_shared_get(&self->uses);
        if ((uses & IB_FREED) != 0) {
            return ib_raise_freed();
        }
    } while (!ib_shared_swap(&self->uses, uses, uses + IB_USE));
    ib_depth++;
    return 0;
}

static inline void ib_bitmap_end(struct ib_bitmap *self)
{
    ib_depth--;
    if (ib_shared_add(&self->uses, (uintptr_t)0 - IB_USE) == IB_USE + IB_FREED) {
        ib_bitmap_release(self);
    }
}

/* free(): new operations fail from now on. Waits for those of other threads; called from within an
 * operation of this thread it does not, and the last one releases. 0, or -1 where the wait ended in
 * an exception: the rest takes its course all the same. */
int ib_bitmap_free(struct ib_bitmap *self);
/* The same without ever waiting, for the collector. */
void ib_bitmap_drop(struct ib_bitmap *self);

/*
 * The present window belongs to one operation at a time. One that marks a range, or looks at the
 * window, stands between these two, inside of begin and end; with a pin object other operations may
 * come between where Python code runs, and the engine is ready for that. `length` of IOVA decides
 * whether the engine runs without the interpreter. -1 and an exception where the wait for another
 * thread's was interrupted.
 */
struct ib_turn {
    struct ib_bitmap *bitmap;
    PyThreadState *thread; /* NULL where the interpreter was not let go */
#ifdef Py_GIL_DISABLED
    PyCriticalSection section;
    bool nested; /* in one of the same thread: a signal's handler called */
#endif
};

int ib_turn_begin_slow(struct ib_turn *turn, uint64_t length);
void ib_turn_end_slow(struct ib_turn *turn);

static inline int ib_turn_begin(struct ib_turn *turn, struct ib_bitmap *self, uint64_t length)
{
    turn->bitmap = self;
#ifndef Py_GIL_DISABLED
    if (length < self->unlock_length && self->mover == 0) { /* no thread can come between */
        turn->thread = NULL;
        return 0;
    }
#endif
    return ib_turn_begin_slow(turn, length);
}

static inline void ib_turn_end(struct ib_turn *turn)
{
#ifndef Py_GIL_DISABLED
    if (turn->thread == NULL) {
        return;
    }
#endif
    ib_turn_end_slow(turn);
}

/* Between these two the engine may run without the interpreter, in windows of its own: it does
 * where `bytes` of bitmap make it worth while and no pin is a Python object. */
enum { IB_UNLOCK_BYTES = 1 << 14 };
PyThreadState *ib_bitmap_unlock(struct ib_bitmap *self, uint64_t bytes);
PyThreadState *ib_bitmap_unlock_both(struct ib_bitmap *self, struct ib_bitmap *other,
                                     uint64_t bytes);
void ib_bitmap_relock(PyThreadState *thread);

/* Two bitmaps at once, of which other may be NULL: -1 where either is freed. */
int ib_bitmap_begin_both(struct ib_bitmap *self, struct ib_bitmap *other);
void ib_bitmap_end_both(struct ib_bitmap *self, struct ib_bitmap *other);
/* And ValueError where their geometries differ. */
int ib_bitmap_begin_same(struct ib_bitmap *self, struct ib_bitmap *other);
/* TypeError that names the argument, and -1, where `other` is no bitmap of this module. */
int ib_bitmap_check_type(struct ib_bitmap *self, PyObject *other, const char *name);

/* The range (iova=None, length=None): an iova left out is the base, a length left out reaches to
 * the end. Where iova lies behind the end, that length is 0 and the range is outside. 0 or -1. */
int ib_bitmap_optional_range(struct ib_bitmap *self, PyObject *iova_object, PyObject *length_object,
                             uint64_t *iova, uint64_t *length);

/* Raises for a failed read, which records nothing: newly is 0. NULL. */
PyObject *ib_raise_query(struct ib_bitmap *self, int rc, struct iova_bitmap_report *report,
                         uint64_t iova, uint64_t length);

/* An array of shape (count, 2) over rows that the engine made, which it takes over. */
PyObject *ib_rows_array(struct ib_state *state, struct iova_bitmap_ranges *ranges);

/* Wraps a window, or None where its npages is 0. */
PyObject *ib_window(struct ib_state *state, const struct iova_bitmap_window *window);

/* A method and its docstring, which stands beside it. */
#define IB_METHOD(name)                                                                            \
    extern const char ib_doc_##name[];                                                             \
    PyObject *ib_bitmap_##name(struct ib_bitmap *self, PyObject *const *args, Py_ssize_t nargs,    \
                               PyObject *kwnames)
#define IB_METHOD_NOARGS(name)                                                                     \
    extern const char ib_doc_##name[];                                                             \
    PyObject *ib_bitmap_##name(struct ib_bitmap *self, PyObject *unused)

/* bitmap_mark.c */
IB_METHOD(set);
IB_METHOD(clear);
IB_METHOD(test_and_set);
IB_METHOD_NOARGS(reset);
/* bitmap_validate.c */
IB_METHOD_NOARGS(validate);
/* bitmap_batch.c */
IB_METHOD(set_ranges);
IB_METHOD(clear_ranges);
IB_METHOD(set_pages);
/* bitmap_query.c */
IB_METHOD(test);
IB_METHOD(count);
IB_METHOD(any);
IB_METHOD(all);
IB_METHOD(find_dirty);
IB_METHOD(find_clean);
IB_METHOD(count_ranges);
IB_METHOD(histogram);
/* bitmap_ranges.c */
IB_METHOD(ranges);
IB_METHOD(iter_ranges);
IB_METHOD(pages);
extern PyType_Spec ib_range_iterator_spec;
/* bitmap_harvest.c */
IB_METHOD(read_and_clear);
IB_METHOD(merge);
IB_METHOD(rescale);
/* bitmap_algebra.c */
IB_METHOD(count_and);
IB_METHOD(count_or);
IB_METHOD(count_xor);
IB_METHOD(count_sub);
PyObject *ib_bitmap_compare(PyObject *a, PyObject *b, int op);
PyObject *ib_bitmap_and(PyObject *a, PyObject *b);
PyObject *ib_bitmap_or(PyObject *a, PyObject *b);
PyObject *ib_bitmap_xor(PyObject *a, PyObject *b);
PyObject *ib_bitmap_sub(PyObject *a, PyObject *b);
PyObject *ib_bitmap_inplace_and(PyObject *a, PyObject *b);
PyObject *ib_bitmap_inplace_or(PyObject *a, PyObject *b);
PyObject *ib_bitmap_inplace_xor(PyObject *a, PyObject *b);
PyObject *ib_bitmap_inplace_sub(PyObject *a, PyObject *b);
/* diff_type.c */
IB_METHOD(diff);
extern PyType_Spec ib_diff_spec;
/* bitmap_array.c */
IB_METHOD(view);
IB_METHOD_NOARGS(to_mask);
IB_METHOD(__array__);
/* bitmap_arrow.c */
IB_METHOD(__arrow_c_array__);
/* bitmap_text.c */
IB_METHOD_NOARGS(to_text);
IB_METHOD_NOARGS(_repr_html_);
extern const char ib_doc_from_text[];
PyObject *ib_bitmap_from_text(PyTypeObject *type, PyObject *args, PyObject *kwargs);
PyObject *ib_bitmap_repr(struct ib_bitmap *self);
/* bitmap_walk.c */
IB_METHOD(for_each);
IB_METHOD_NOARGS(windows);
extern PyType_Spec ib_window_iterator_spec;
/* bitmap_copy.c */
IB_METHOD_NOARGS(copy);
IB_METHOD_NOARGS(__copy__);
IB_METHOD(__deepcopy__);
IB_METHOD_NOARGS(__reduce__);
extern const char ib_doc_restore[];
PyObject *ib_restore(PyObject *module, PyObject *args);

/* ---- signals during a long operation (poll.c) ---- */

/* The engine's poll: runs the handlers of signals that came, -1 and an exception where one raises.
 * Without the interpreter too, where this thread has said so: with what PyEval_SaveThread returned,
 * and with NULL before it takes the interpreter back. */
int ib_poll(void *context);
void ib_poll_detached(PyThreadState *thread);
extern const char ib_doc_signal_interval[];
PyObject *ib_signal_interval(PyObject *module, PyObject *ns);

/* The same with the interpreter, in a loop of many short steps: asks at some. */
static inline int ib_poll_each(uint64_t step)
{
    return (step & 0x3fff) == 0x3fff ? PyErr_CheckSignals() : 0;
}
/* stamp.c */
extern const char ib_doc_stamp[];
PyObject *ib_stamp(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

/* ---- a Python object as a pin backend (pin_object.c) ---- */

extern const struct iova_bitmap_pin_ops ib_pin_object_ops; /* its context is the ib_bitmap */

/* The backend that `pin` names or is; -1 and an exception where there is none. */
int ib_pin_ops(PyObject *pin, const struct iova_bitmap_pin_ops **ops);

/* ---- the low-level write tracker (tracker_type.c) ---- */

extern PyType_Spec ib_write_tracker_spec;

#endif
