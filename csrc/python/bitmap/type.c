/*
 * type.c - the type IOVABitmap: how one is made, read by attribute, freed and destroyed. Its
 * operations are in the other bitmap_*.c files.
 *
 * All work is done in __new__: a geometry never changes, so calling __init__ again changes nothing.
 */
#include "python/bitmap/bitmap.h"

#include <string.h>

static char bitmap_doc[] =
    "IOVABitmap(iova, length, page_size=4096, data=None, *, window_pages=None, pin='none')\n--\n\n"
    "A dirty-page bitmap of the range [iova, iova + length), one bit for each page.\n\n"
    "Bit n is bit n % 8 (LSB first) of byte n // 8 of `data`; the page of an address is\n"
    "(address - iova) // page_size, counted from the bitmap's own base.\n\n"
    "Parameters\n"
    "----------\n"
    "iova : int\n    First address, 0 to 2**64 - 1; need not be a multiple of page_size.\n"
    "length : int\n    Bytes of IOVA, 1 to 2**64 - 1; the range may end at 2**64.\n"
    "page_size : int\n    Bytes of IOVA that one bit stands for: a power of two, 1 to 2**63.\n"
    "data : writable contiguous buffer, optional\n"
    "    The memory that holds the bits, at least nbytes_for(length, page_size) bytes, at any\n"
    "    address. It is held until the bitmap is freed. None: zeroed memory of its own.\n"
    "window_pages : int, optional\n"
    "    The most host pages of bitmap that a window pins; by default the host's page size\n"
    "    divided by the size of a pointer, 512 on x86-64.\n"
    "pin : 'none', 'populate', 'mlock' or object\n"
    "    How a window's pages are made present: not at all, with MADV_POPULATE_WRITE, with\n"
    "    mlock, or by an object with pin(address, npages) -> int and unpin(address, npages).\n\n"
    "Raises\n"
    "------\n"
    "ValueError\n    For a bad geometry, or where data is too small.\n"
    "BufferError\n    Where data is read-only or not contiguous.\n"
    "NotImplementedError\n    Where the platform does not have the pin backend.\n\n"
    "Examples\n"
    "--------\n"
    ">>> import iovabitmap as ib\n"
    ">>> bm = ib.IOVABitmap(0, 0x10000)\n"
    ">>> bm.set(0x1800, 0x1000)\n"
    ">>> bm.count()\n"
    "2\n";

const char ib_doc_alloc[] =
    "alloc($module, /, iova, length, page_size, data, *, window_pages=None, pin='none')\n--\n\n"
    "An IOVABitmap of [iova, iova + length) over the caller's memory `data`.\n\n"
    "The parameters are those of IOVABitmap; page_size and data must be given. Nothing is pinned\n"
    "and no byte is touched before the first operation.\n\n"
    "Examples\n"
    "--------\n"
    ">>> import iovabitmap as ib\n"
    ">>> with ib.alloc(0, 0x10000, 4096, bytearray(2)) as bm:\n"
    "...     bm.set(0x2000, 1)\n";

/* ---- making ---- */

/* The memory of a new bitmap: the caller's, or its own where data is NULL. */
static PyObject *memory_for(struct ib_state *state, PyObject *data,
                            const struct iova_bitmap_geometry *geometry)
{
    if (data == NULL) {
        return ib_memory_zeroed(state, geometry->nbytes);
    }
    PyObject *memory = ib_memory_from_object(state, data, true);
    if (memory != NULL && ib_memory_size(memory) < geometry->nbytes) {
        PyErr_Format(PyExc_ValueError, "data has %llu bytes, the bitmap needs %llu",
                     (unsigned long long)ib_memory_size(memory),
                     (unsigned long long)geometry->nbytes);
        Py_CLEAR(memory);
    }
    return memory;
}

enum { IOVA, LENGTH, PAGE_SIZE, DATA, WINDOW_PAGES, PIN, NARGUMENTS };

/* From the arguments of alloc() or of the type, in the order above; NULL where not given. */
static PyObject *make_from_arguments(PyTypeObject *type, struct ib_state *state, PyObject **args)
{
    struct iova_bitmap_geometry geometry;
    uint64_t iova, length, page_size = 4096, window_pages = 0;

    if (ib_u64(args[IOVA], "iova", &iova) < 0 || ib_u64(args[LENGTH], "length", &length) < 0 ||
        (args[PAGE_SIZE] != NULL && ib_u64(args[PAGE_SIZE], "page_size", &page_size) < 0)) {
        return NULL;
    }
    if (args[WINDOW_PAGES] != NULL && args[WINDOW_PAGES] != Py_None) {
        if (ib_u64(args[WINDOW_PAGES], "window_pages", &window_pages) < 0) {
            return NULL;
        }
        if (window_pages == 0) {
            PyErr_SetString(PyExc_ValueError, "window_pages must be 1 or more, not 0");
            return NULL;
        }
    }
    int rc = iova_bitmap_geometry_init(&geometry, iova, length, page_size);
    if (rc < 0) {
        ib_raise_geometry(rc, iova, length, page_size);
        return NULL;
    }
    PyObject *memory = memory_for(state, args[DATA], &geometry);
    if (memory == NULL) {
        return NULL;
    }
    PyObject *pin = args[PIN] != NULL ? Py_NewRef(args[PIN]) : PyUnicode_InternFromString("none");
    struct ib_bitmap *self = NULL;
    if (pin != NULL) {
        self = ib_bitmap_make(type, state, &geometry, memory, window_pages, pin);
    }
    Py_XDECREF(pin);
    Py_DECREF(memory);
    return (PyObject *)self;
}

static PyObject *bitmap_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"iova", "length", "page_size", "data", "window_pages", "pin", NULL};
    PyObject *parsed[NARGUMENTS] = {NULL};
    struct ib_state *state = ib_state_of_type(type);

    if (state == NULL ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "OO|OO$OO:IOVABitmap", names, &parsed[IOVA],
                                     &parsed[LENGTH], &parsed[PAGE_SIZE], &parsed[DATA],
                                     &parsed[WINDOW_PAGES], &parsed[PIN])) {
        return NULL;
    }
    if (parsed[DATA] == Py_None) {
        parsed[DATA] = NULL;
    }
    return make_from_arguments(type, state, parsed);
}

PyObject *ib_alloc(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"iova", "length",       "page_size",
                                        "data", "window_pages", "pin"};
    static const struct ib_signature signature = {"alloc", 4, 4, NARGUMENTS, names};
    struct ib_state *state = PyModule_GetState(module);
    PyObject *parsed[NARGUMENTS];

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0) {
        return NULL;
    }
    return make_from_arguments(state->bitmap_type, state, parsed);
}

/* ---- freeing ---- */

static const char ib_doc_free[] =
    "free($self, /)\n--\n\n"
    "Give the pinned window back and let go of the memory.\n\n"
    "New operations fail at once; those of other threads are waited for. Within an operation of\n"
    "this thread (a callback, a pin object) nothing is waited for: the one that ends last "
    "releases.\n"
    "Afterwards the geometry, pin, window_pages, stats, freed and repr can be read; all else "
    "raises\n"
    "ValueError. Safe to repeat.\n\n"
    "Ctrl-C ends the wait, not the freeing.\n";

static PyObject *bitmap_free(struct ib_bitmap *self, PyObject *unused)
{
    (void)unused;
    return ib_bitmap_free(self) < 0 ? NULL : ib_none();
}

static const char ib_doc___enter__[] = "__enter__($self, /)\n--\n\nThe bitmap itself.";

static PyObject *bitmap_enter(struct ib_bitmap *self, PyObject *unused)
{
    (void)unused;
    return ib_bitmap_check(self) < 0 ? NULL : Py_NewRef((PyObject *)self);
}

static const char ib_doc___exit__[] =
    "__exit__($self, exc_type, exc_value, traceback, /)\n--\n\nFree the bitmap.";

static PyObject *bitmap_exit(struct ib_bitmap *self, PyObject *args)
{
    (void)args;
    return ib_bitmap_free(self) < 0 ? NULL : PyBool_FromLong(0);
}

/* ---- the collector ---- */

static int bitmap_traverse(struct ib_bitmap *self, visitproc visit, void *arg)
{
    Py_VISIT((PyObject *)Py_TYPE((PyObject *)self));
    Py_VISIT(self->pin);
    Py_VISIT(self->memory);
    return 0;
}

static int bitmap_clear(struct ib_bitmap *self)
{
    ib_bitmap_drop(self); /* before the pin object goes */
    Py_CLEAR(self->pin);
    return 0;
}

/* In a cycle, while the pin object is still whole. */
static void bitmap_finalize(PyObject *self)
{
    ib_bitmap_drop((struct ib_bitmap *)self);
}

static void bitmap_dealloc(struct ib_bitmap *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    freefunc tp_free = (freefunc)PyType_GetSlot(type, Py_tp_free);

    PyObject_GC_UnTrack(self);
    PyObject_ClearWeakRefs((PyObject *)self);
    ib_bitmap_drop(self);
    if ((self->uses & IB_RELEASED) == 0) { /* only in a child of fork(): its parent's operations */
        ib_bitmap_release(self);
    }
    bitmap_clear(self);
    iova_bitmap_free(self->engine);
    tp_free(self);
    Py_DECREF(type);
}

/* ---- attributes ---- */

/* The closure is the offset of a uint64_t in the geometry. */
static PyObject *get_geometry(struct ib_bitmap *self, void *closure)
{
    uint64_t value;
    memcpy(&value, (const char *)ib_bitmap_geometry(self) + (uintptr_t)closure, sizeof(value));
    return PyLong_FromUnsignedLongLong(value);
}

static PyObject *get_end(struct ib_bitmap *self, void *closure)
{
    (void)closure;
    PyObject *last = PyLong_FromUnsignedLongLong(ib_bitmap_geometry(self)->last);
    PyObject *one = PyLong_FromLong(1);
    PyObject *end = last != NULL && one != NULL ? PyNumber_Add(last, one) : NULL;

    Py_XDECREF(last);
    Py_XDECREF(one);
    return end;
}

static PyObject *get_pgshift(struct ib_bitmap *self, void *closure)
{
    (void)closure;
    return PyLong_FromLong((long)ib_bitmap_geometry(self)->pgshift);
}

static PyObject *get_window_pages(struct ib_bitmap *self, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(iova_bitmap_window_pages(self->engine));
}

static PyObject *get_pin(struct ib_bitmap *self, void *closure)
{
    (void)closure;
    return Py_NewRef(self->pin != NULL ? self->pin : Py_None); /* NULL once collected */
}

static PyObject *get_freed(struct ib_bitmap *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(ib_bitmap_is_freed(self));
}

PyObject *ib_window(struct ib_state *state, const struct iova_bitmap_window *window)
{
    if (window->npages == 0) {
        return ib_none();
    }
    return PyObject_CallFunction(
        state->window_class, "KKKKK", (unsigned long long)window->iova,
        (unsigned long long)window->length, (unsigned long long)window->base_index,
        (unsigned long long)window->pgoff, (unsigned long long)window->npages);
}

static PyObject *get_window(struct ib_bitmap *self, void *closure)
{
    struct ib_call call = {0};
    (void)closure;

    if (ib_call_begin_present(&call, self) < 0) {
        return NULL;
    }
    struct iova_bitmap_window window = *iova_bitmap_present_window(self->engine);
    ib_call_end(&call, 0);
    return ib_window(self->state, &window);
}

static PyObject *get_stats(struct ib_bitmap *self, void *closure)
{
    (void)closure;
    const struct iova_bitmap_stats stats = iova_bitmap_stats_now(self->engine);
    return PyObject_CallFunction(
        self->state->stats_class, "KKKKK", (unsigned long long)stats.pins,
        (unsigned long long)stats.unpins, (unsigned long long)stats.pinned_pages,
        (unsigned long long)stats.peak_pinned_pages, (unsigned long long)stats.moves);
}

#define GEOMETRY(name, doc)                                                                        \
    {#name, (getter)get_geometry, NULL, doc, (void *)offsetof(struct iova_bitmap_geometry, name)}

static PyGetSetDef bitmap_getset[] = {
    GEOMETRY(iova, "First address of the range."),
    GEOMETRY(length, "Bytes of IOVA in the range."),
    GEOMETRY(page_size, "Bytes of IOVA that one bit stands for, a power of two."),
    GEOMETRY(nbits, "Pages in the range; the last may be a part of one."),
    GEOMETRY(nbytes, "Bytes of bitmap that are used: (nbits + 7) // 8."),
    {"end", (getter)get_end, NULL, "First address behind the range; may be 2**64.", NULL},
    {"pgshift", (getter)get_pgshift, NULL, "log2(page_size).", NULL},
    {"window_pages", (getter)get_window_pages, NULL,
     "The most host pages of bitmap that a window holds.", NULL},
    {"pin", (getter)get_pin, NULL, "The pin backend: 'none', 'populate', 'mlock' or an object.",
     NULL},
    {"freed", (getter)get_freed, NULL, "True once free() was called.", NULL},
    {"window", (getter)get_window, NULL,
     "The present Window, which set, clear and test_and_set move; None where none is pinned.",
     NULL},
    {"stats", (getter)get_stats, NULL, "Stats: what was pinned so far. Readable after free().",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef bitmap_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct ib_bitmap, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

#define KEYWORDS (METH_FASTCALL | METH_KEYWORDS)
#define METHOD(name, function, flags)                                                              \
    {#name, (PyCFunction)(void (*)(void))function, flags, ib_doc_##name}

static PyMethodDef bitmap_methods[] = {
    METHOD(set, ib_bitmap_set, KEYWORDS),
    METHOD(clear, ib_bitmap_clear, KEYWORDS),
    METHOD(test, ib_bitmap_test, KEYWORDS),
    METHOD(test_and_set, ib_bitmap_test_and_set, KEYWORDS),
    METHOD(count, ib_bitmap_count, KEYWORDS),
    METHOD(ranges, ib_bitmap_ranges, KEYWORDS),
    METHOD(any, ib_bitmap_any, KEYWORDS),
    METHOD(all, ib_bitmap_all, KEYWORDS),
    METHOD(find_dirty, ib_bitmap_find_dirty, KEYWORDS),
    METHOD(find_clean, ib_bitmap_find_clean, KEYWORDS),
    METHOD(count_ranges, ib_bitmap_count_ranges, KEYWORDS),
    METHOD(histogram, ib_bitmap_histogram, KEYWORDS),
    METHOD(iter_ranges, ib_bitmap_iter_ranges, KEYWORDS),
    METHOD(pages, ib_bitmap_pages, KEYWORDS),
    METHOD(set_ranges, ib_bitmap_set_ranges, KEYWORDS),
    METHOD(clear_ranges, ib_bitmap_clear_ranges, KEYWORDS),
    METHOD(set_pages, ib_bitmap_set_pages, KEYWORDS),
    METHOD(read_and_clear, ib_bitmap_read_and_clear, KEYWORDS),
    METHOD(merge, ib_bitmap_merge, KEYWORDS),
    METHOD(rescale, ib_bitmap_rescale, KEYWORDS),
    METHOD(count_and, ib_bitmap_count_and, KEYWORDS),
    METHOD(count_or, ib_bitmap_count_or, KEYWORDS),
    METHOD(count_xor, ib_bitmap_count_xor, KEYWORDS),
    METHOD(count_sub, ib_bitmap_count_sub, KEYWORDS),
    METHOD(diff, ib_bitmap_diff, KEYWORDS),
    METHOD(to_text, ib_bitmap_to_text, METH_NOARGS),
    METHOD(_repr_html_, ib_bitmap__repr_html_, METH_NOARGS),
    METHOD(from_text, ib_bitmap_from_text, METH_VARARGS | METH_KEYWORDS | METH_CLASS),
    METHOD(for_each, ib_bitmap_for_each, KEYWORDS),
    METHOD(windows, ib_bitmap_windows, METH_NOARGS),
    METHOD(reset, ib_bitmap_reset, METH_NOARGS),
    METHOD(copy, ib_bitmap_copy, METH_NOARGS),
    METHOD(free, bitmap_free, METH_NOARGS),
    METHOD(validate, ib_bitmap_validate, METH_NOARGS),
    METHOD(view, ib_bitmap_view, KEYWORDS),
    METHOD(to_mask, ib_bitmap_to_mask, METH_NOARGS),
    METHOD(__enter__, bitmap_enter, METH_NOARGS),
    METHOD(__exit__, bitmap_exit, METH_VARARGS),
    METHOD(__copy__, ib_bitmap___copy__, METH_NOARGS),
    METHOD(__deepcopy__, ib_bitmap___deepcopy__, KEYWORDS),
    METHOD(__reduce__, ib_bitmap___reduce__, METH_NOARGS),
    METHOD(__array__, ib_bitmap___array__, KEYWORDS),
    METHOD(__arrow_c_array__, ib_bitmap___arrow_c_array__, KEYWORDS),
    {NULL, NULL, 0, NULL},
};

static PyType_Slot bitmap_slots[] = {
    {Py_tp_doc, bitmap_doc},
    {Py_tp_new, bitmap_new},
    {Py_tp_dealloc, bitmap_dealloc},
    {Py_tp_finalize, bitmap_finalize},
    {Py_tp_traverse, bitmap_traverse},
    {Py_tp_clear, bitmap_clear},
    {Py_tp_repr, ib_bitmap_repr},
    {Py_tp_richcompare, ib_bitmap_compare},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_nb_and, ib_bitmap_and},
    {Py_nb_or, ib_bitmap_or},
    {Py_nb_xor, ib_bitmap_xor},
    {Py_nb_subtract, ib_bitmap_sub},
    {Py_nb_inplace_and, ib_bitmap_inplace_and},
    {Py_nb_inplace_or, ib_bitmap_inplace_or},
    {Py_nb_inplace_xor, ib_bitmap_inplace_xor},
    {Py_nb_inplace_subtract, ib_bitmap_inplace_sub},
    {Py_tp_methods, bitmap_methods},
    {Py_tp_members, bitmap_members},
    {Py_tp_getset, bitmap_getset},
    {0, NULL},
};

PyType_Spec ib_bitmap_spec = {
    .name = "iovabitmap.IOVABitmap",
    .basicsize = sizeof(struct ib_bitmap),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = bitmap_slots,
};
