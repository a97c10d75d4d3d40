/*
 * snapshot.c - _changed_pages(), from which iovabitmap.sources.SnapshotDiff is made: compares
 * buffers without the GIL.
 */
#include "core/sources/snapshot.h"
#include "python/module/binding.h"

const char ib_doc_changed_pages[] =
    "_changed_pages($module, memory, shadow, page_size, changed, /)\n--\n\n"
    "Bring a copy of memory up to date: how many pages had changed.\n\n"
    "shadow is as long as memory; changed has one byte for each page, which becomes 0 or 1.\n";

static int compare(Py_buffer *views, uint64_t page_size, uint64_t *count)
{
    const uint64_t size = (uint64_t)views[0].len;
    const uint64_t npages = size == 0 ? 0 : (size - 1) / page_size + 1;

    if ((uint64_t)views[1].len != size || (uint64_t)views[2].len < npages) {
        PyErr_SetString(PyExc_ValueError,
                        "shadow must be as long as memory, and changed as many bytes as pages");
        return -1;
    }
    Py_BEGIN_ALLOW_THREADS *count =
        iova_snapshot_diff(views[0].buf, views[1].buf, size, page_size, views[2].buf);
    Py_END_ALLOW_THREADS return 0;
}

PyObject *ib_changed_pages(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    static const int flags[] = {PyBUF_SIMPLE, PyBUF_WRITABLE, PyBUF_WRITABLE};
    PyObject *objects[3];
    Py_buffer views[3];
    uint64_t page_size, count = 0;
    int held = 0, rc = -1;
    (void)module;

    if (nargs != 4) {
        PyErr_Format(PyExc_TypeError, "_changed_pages() takes 4 arguments, not %zd", nargs);
        return NULL;
    }
    objects[0] = args[0];
    objects[1] = args[1];
    objects[2] = args[3];
    if (ib_u64(args[2], "page_size", &page_size) < 0) {
        return NULL;
    }
    if (page_size == 0) {
        PyErr_SetString(PyExc_ValueError, "page_size must be at least 1, not 0");
        return NULL;
    }
    while (held < 3 && PyObject_GetBuffer(objects[held], &views[held], flags[held]) == 0) {
        held++;
    }
    if (held == 3) {
        rc = compare(views, page_size, &count);
    }
    while (held > 0) {
        PyBuffer_Release(&views[--held]);
    }
    return rc < 0 ? NULL : PyLong_FromUnsignedLongLong(count);
}
