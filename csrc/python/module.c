/*
 * module.c - the extension module iovabitmap._core: it assembles the types and functions that the
 * rooms beside it define.
 */
#include "python/bitmap/bitmap.h"
#include "python/epochs/epochs.h"
#include "python/sources/sources.h"
#include "python/testing/testing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/bits/kernels.h"

static const char doc_nbytes_for[] =
    "nbytes_for($module, /, length, page_size)\n--\n\n"
    "Bytes of bitmap for `length` bytes of IOVA: one bit a page, rounded up; 0 for length 0.\n\n"
    "Raises\n"
    "------\n"
    "ValueError\n    Where page_size is no power of two from 1 to 2**63.\n\n"
    "Examples\n"
    "--------\n"
    ">>> import iovabitmap as ib\n"
    ">>> ib.nbytes_for(64 << 30, 4096)\n"
    "2097152\n";

static PyObject *nbytes_for(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames)
{
    static const char *const names[] = {"length", "page_size"};
    static const struct ib_signature signature = {"nbytes_for", 2, 2, 2, names};
    PyObject *parsed[2];
    uint64_t length, page_size;
    (void)module;

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0 ||
        ib_u64(parsed[0], "length", &length) < 0 ||
        ib_u64(parsed[1], "page_size", &page_size) < 0) {
        return NULL;
    }
    struct iova_bitmap_geometry geometry;
    if (iova_bitmap_geometry_init(&geometry, 0, 1, page_size) < 0) {
        ib_raise_geometry(-EINVAL, 0, 1, page_size);
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(iova_bitmap_nbytes(length, page_size));
}

static const char doc_kernels[] =
    "_kernels($module, /)\n--\n\n"
    "The inner loops in use, and a tuple of those that this CPU has.\n\n"
    "The environment variable IOVABITMAP_CPU chooses among them before the first import.\n";

static PyObject *kernels(PyObject *module, PyObject *unused)
{
    const struct iova_kernels *all[4];
    size_t n = iova_kernels_available(all);
    PyObject *names = PyTuple_New((Py_ssize_t)n);
    (void)module;
    (void)unused;

    for (size_t i = 0; names != NULL && i < n; i++) {
        PyObject *name = PyUnicode_FromString(all[i]->name);
        if (name == NULL || PyTuple_SetItem(names, (Py_ssize_t)i, name) < 0) {
            Py_CLEAR(names);
        }
    }
    return names == NULL ? NULL : Py_BuildValue("(sN)", iova_kernels()->name, names);
}

/* A name in the environment that this CPU does not have must not pass for a choice. */
static int check_environment(PyObject *module)
{
    const char *wanted = getenv("IOVABITMAP_CPU");

    if (wanted == NULL || strcmp(wanted, iova_kernels()->name) == 0) {
        return 0;
    }
    PyObject *both = kernels(module, NULL);
    if (both != NULL) {
        PyErr_Format(PyExc_ImportError, "IOVABITMAP_CPU is '%s'; this CPU has %R", wanted,
                     PyTuple_GetItem(both, 1));
        Py_DECREF(both);
    }
    return -1;
}

static PyMethodDef functions[] = {
    {"alloc", (PyCFunction)(void (*)(void))ib_alloc, METH_FASTCALL | METH_KEYWORDS, ib_doc_alloc},
    {"nbytes_for", (PyCFunction)(void (*)(void))nbytes_for, METH_FASTCALL | METH_KEYWORDS,
     doc_nbytes_for},
    {"_changed_pages", (PyCFunction)(void (*)(void))ib_changed_pages, METH_FASTCALL,
     ib_doc_changed_pages},
    {"_first_bad_row", (PyCFunction)(void (*)(void))ib_first_bad_row, METH_FASTCALL,
     ib_doc_first_bad_row},
    {"_add_hits", (PyCFunction)(void (*)(void))ib_add_hits, METH_FASTCALL, ib_doc_add_hits},
    {"_add_map", (PyCFunction)(void (*)(void))ib_add_map, METH_FASTCALL, ib_doc_add_map},
    {"_add_history", (PyCFunction)(void (*)(void))ib_add_history, METH_FASTCALL,
     ib_doc_add_history},
    {"_kernels", kernels, METH_NOARGS, doc_kernels},
    {"_restore", ib_restore, METH_VARARGS, ib_doc_restore},
    {"_signal_interval", ib_signal_interval, METH_O, ib_doc_signal_interval},
    {"_stamp", (PyCFunction)(void (*)(void))ib_stamp, METH_FASTCALL | METH_KEYWORDS, ib_doc_stamp},
    {NULL, NULL, 0, NULL},
};

/* A named tuple of the package, with a docstring for itself. */
static PyObject *make_named_tuple(PyObject *module, const char *name, const char *fields,
                                  const char *doc)
{
    PyObject *collections = PyImport_ImportModule("collections");
    PyObject *made = NULL;
    PyObject *factory = NULL, *args = NULL, *kwargs = NULL, *text = NULL;

    if (collections != NULL && (factory = PyObject_GetAttrString(collections, "namedtuple")) &&
        (args = Py_BuildValue("(ss)", name, fields)) &&
        (kwargs = Py_BuildValue("{ss}", "module", "iovabitmap")) &&
        (text = PyUnicode_FromString(doc))) {
        made = PyObject_Call(factory, args, kwargs);
    }
    if (made != NULL && (PyObject_SetAttrString(made, "__doc__", text) < 0 ||
                         PyModule_AddObjectRef(module, name, made) < 0)) {
        Py_CLEAR(made);
    }
    Py_XDECREF(collections);
    Py_XDECREF(factory);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_XDECREF(text);
    return made;
}

static PyTypeObject *make_type(PyObject *module, PyType_Spec *spec)
{
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
}

static int execute(PyObject *module)
{
    struct ib_state *state = PyModule_GetState(module);

    if (check_environment(module) < 0 || ib_add_exceptions(module, state) < 0) {
        return -1;
    }
    struct {
        PyTypeObject **type;
        PyType_Spec *spec;
    } const types[] = {
        {&state->memory_type, &ib_memory_spec},
        {&state->window_iterator_type, &ib_window_iterator_spec},
        {&state->range_iterator_type, &ib_range_iterator_spec},
        {&state->diff_type, &ib_diff_spec},
        {&state->bitmap_type, &ib_bitmap_spec},
        {&state->write_tracker_type, &ib_write_tracker_spec},
    };
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        *types[i].type = make_type(module, types[i].spec);
        if (*types[i].type == NULL) {
            return -1;
        }
    }
    state->window_class = make_named_tuple(
        module, "Window", "iova length base_index pgoff npages",
        "A pinned part of a bitmap.\n\n"
        "iova, length: the bytes of IOVA it stands for; base_index: its first byte of bitmap;\n"
        "pgoff: the offset of that byte in its host page; npages: host pages of bitmap.\n");
    if (state->window_class == NULL) {
        return -1;
    }
    state->stats_class = make_named_tuple(
        module, "Stats", "pins unpins pinned_pages peak_pinned_pages moves",
        "What a bitmap has pinned so far.\n\n"
        "pins, unpins: calls that delivered; pinned_pages: host pages pinned now;\n"
        "peak_pinned_pages: the most at once; moves: windows taken as the present one.\n");
    if (state->stats_class == NULL) {
        return -1;
    }
    if (PyModule_AddIntConstant(module, "_UNLOCK_BYTES", IB_UNLOCK_BYTES) < 0) {
        return -1;
    }
    state->restore = PyObject_GetAttrString(module, "_restore");
    if (state->restore == NULL || ib_add_capi(module) < 0) {
        return -1;
    }
    /* So that NumPy leaves `array == bitmap` to us, and does not try to convert the bitmap. */
    if (PyObject_SetAttrString((PyObject *)state->bitmap_type, "__array_ufunc__", Py_None) < 0) {
        return -1;
    }
    return PyModule_AddType(module, state->bitmap_type) < 0 ||
                   PyModule_AddType(module, state->diff_type) < 0
               ? -1
               : PyModule_AddType(module, state->write_tracker_type);
}

/*
 * What the module says of itself, by the interpreter that asks: one binary serves them all, and
 * each refuses slots that it does not know. So the numbers stand here, the headers may be older.
 *
 *   3.11            one interpreter lock for all; any sub-interpreter may import the module
 *   3.12 and later  sub-interpreters with a lock of their own: what they share is in csrc/core, and
 *                   is constant, atomic or locked
 *   3.13 and later  no lock at all
 */
enum { MOD_MULTIPLE_INTERPRETERS = 3, MOD_GIL = 4 };
#define PER_INTERPRETER_GIL_SUPPORTED ((void *)2)
#define GIL_NOT_USED ((void *)1)

static PyModuleDef_Slot slots_3_11[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};
static PyModuleDef_Slot slots_3_12[] = {
    {Py_mod_exec, execute},
    {MOD_MULTIPLE_INTERPRETERS, PER_INTERPRETER_GIL_SUPPORTED},
    {0, NULL},
};
static PyModuleDef_Slot slots_3_13[] = {
    {Py_mod_exec, execute},
    {MOD_MULTIPLE_INTERPRETERS, PER_INTERPRETER_GIL_SUPPORTED},
    {MOD_GIL, GIL_NOT_USED},
    {0, NULL},
};

/* One for each table: interpreters may import at the same time, so none is written to. */
#define DEFINITION(its_slots)                                                                      \
    {                                                                                              \
        PyModuleDef_HEAD_INIT,                                                                     \
        .m_name = "iovabitmap._core",                                                              \
        .m_doc = "The engine's binding; use it by the names that iovabitmap exports.",             \
        .m_size = sizeof(struct ib_state),                                                         \
        .m_methods = functions,                                                                    \
        .m_slots = its_slots,                                                                      \
        .m_traverse = ib_state_traverse,                                                           \
        .m_clear = ib_state_clear,                                                                 \
        .m_free = ib_state_free,                                                                   \
    }

static struct PyModuleDef definitions[] = {
    DEFINITION(slots_3_11),
    DEFINITION(slots_3_12),
    DEFINITION(slots_3_13),
};

static struct PyModuleDef *definition(void)
{
    return &definitions[Py_Version < 0x030C0000 ? 0 : Py_Version < 0x030D0000 ? 1 : 2];
}

PyMODINIT_FUNC PyInit__core(void); /* called by the interpreter only */

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(definition());
}
