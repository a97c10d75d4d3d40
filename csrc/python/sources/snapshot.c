/*
 * snapshot.c - _changed_pages(), from which iovabitmap.sources.SnapshotDiff is made: compares
 * buffers without the GIL.
 */
#include "python/sources/sources.h"

#include "core/sources/snapshot.h"

const char ib_doc_changed_pages[] =
    "_changed_pages($module, memory, shadow, page_size, changed, /)\n--\n\n"
    "Bring a copy of memory up to date: how many pages had changed.\n\n"
    "shadow is as long as memory; changed has one byte for each page, which becomes 0 or 1.\n";

/* memory, shadow, changed. 0, or -1 and ValueError. */
static int compare(PyObject *const *memories, uint64_t page_size, uint64_t *count)
{
    const uint64_t size = ib_memory_size(memories[0]);
    const uint64_t npages = size == 0 ? 0 : (size - 1) / page_size + 1;

    if (ib_memory_size(memories[1]) != size || ib_memory_size(memories[2]) < npages) {
        PyErr_SetString(PyExc_ValueError,
                        "shadow must be as long as memory, and changed as many bytes as pages");
        return -1;
    }
    Py_BEGIN_ALLOW_THREADS *count =
        iova_snapshot_diff(ib_memory_bytes(memories[0]), ib_memory_bytes(memories[1]), size,
                           page_size, ib_memory_bytes(memories[2]));
    Py_END_ALLOW_THREADS return 0;
}

PyObject *ib_changed_pages(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    struct ib_state *state = PyModule_GetState(module);
    PyObject *memories[3] = {NULL};
    uint64_t page_size, count = 0;

    if (nargs != 4) {
        PyErr_Format(PyExc_TypeError, "_changed_pages() takes 4 arguments, not %zd", nargs);
        return NULL;
    }
    if (ib_u64(args[2], "page_size", &page_size) < 0) {
        return NULL;
    }
    if (page_size == 0) {
        PyErr_SetString(PyExc_ValueError, "page_size must be at least 1, not 0");
        return NULL;
    }
    int rc = -1;
    if ((memories[0] = ib_memory_from_object(state, args[0], false)) != NULL &&
        (memories[1] = ib_memory_from_object(state, args[1], true)) != NULL &&
        (memories[2] = ib_memory_from_object(state, args[3], true)) != NULL) {
        rc = compare(memories, page_size, &count);
    }
    for (int i = 0; i < 3; i++) {
        Py_XDECREF(memories[i]);
    }
    return rc < 0 ? NULL : PyLong_FromUnsignedLongLong(count);
}
