/*
 * diff.c - the type Diff: what changed between two bitmaps of the same geometry.
 *
 * The counts are taken at once, in one pass. Ranges are read from the two bitmaps when asked for,
 * so nothing is kept of memory that others write.
 */
#include "python/bitmap/bitmap.h"

struct diff {
    PyObject_HEAD struct ib_bitmap *now;
    struct ib_bitmap *before;
    uint64_t appeared;
    uint64_t disappeared;
    uint64_t common;
};

const char ib_doc_diff[] = "diff($self, /, old)\n--\n\n"
                           "What changed since `old`, a bitmap of the same geometry: a Diff.\n\n"
                           "Raises\n"
                           "------\n"
                           "ValueError\n    Where the geometries differ.\n"
                           "PinError\n    Where memory could not be made readable.\n\n"
                           "Examples\n"
                           "--------\n"
                           ">>> old, new = IOVABitmap(0, 0x4000), IOVABitmap(0, 0x4000)\n"
                           ">>> old.set(0, 0x2000)\n"
                           ">>> new.set(0x1000, 0x2000)\n"
                           ">>> new.diff(old)\n"
                           "Diff(appeared=1, disappeared=1, common=1)\n";

IB_METHOD(diff)
{
    static const char *const names[] = {"old"};
    static const struct ib_signature signature = {"diff", 1, 1, 1, names};
    PyObject *parsed[1];
    uint64_t counts[3];
    struct ib_call call = {0};

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0 ||
        ib_bitmap_check_type(self, parsed[0], "old") < 0) {
        return NULL;
    }
    struct ib_bitmap *old = (struct ib_bitmap *)parsed[0];
    if (ib_call_begin_same(&call, self, old) < 0) {
        return NULL;
    }
    int rc = iova_bitmap_count_both(self->engine, old->engine, counts, &call.report);
    if (ib_call_answer(&call, rc) < 0) {
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(self->state->diff_type, Py_tp_alloc);
    struct diff *diff = (struct diff *)alloc(self->state->diff_type, 0);
    if (diff != NULL) {
        diff->now = (struct ib_bitmap *)Py_NewRef((PyObject *)self);
        diff->before = (struct ib_bitmap *)Py_NewRef((PyObject *)old);
        diff->appeared = counts[0] - counts[2];
        diff->disappeared = counts[1] - counts[2];
        diff->common = counts[2];
    }
    return (PyObject *)diff;
}

static PyObject *rows(struct ib_bitmap *left, struct ib_bitmap *right,
                      enum iova_bitmap_operation operation)
{
    struct iova_bitmap_ranges ranges;
    struct ib_call call = {0};

    if (ib_call_begin_same(&call, left, right) < 0) {
        return NULL;
    }
    int rc =
        iova_bitmap_ranges_combined(left->engine, right->engine, operation, &ranges, &call.report);
    return ib_call_answer(&call, rc) < 0 ? NULL : ib_rows_array(left->state, &ranges);
}

PyDoc_STRVAR(appeared_ranges_doc, "appeared_ranges($self, /)\n--\n\n"
                                  "Rows (iova, length) of pages dirty now and clean before.");

static PyObject *appeared_ranges(struct diff *self, PyObject *unused)
{
    (void)unused;
    return rows(self->now, self->before, IOVA_BITMAP_SUB);
}

PyDoc_STRVAR(disappeared_ranges_doc, "disappeared_ranges($self, /)\n--\n\n"
                                     "Rows (iova, length) of pages clean now and dirty before.");

static PyObject *disappeared_ranges(struct diff *self, PyObject *unused)
{
    (void)unused;
    return rows(self->before, self->now, IOVA_BITMAP_SUB);
}

PyDoc_STRVAR(common_ranges_doc, "common_ranges($self, /)\n--\n\n"
                                "Rows (iova, length) of pages dirty now and before.");

static PyObject *common_ranges(struct diff *self, PyObject *unused)
{
    (void)unused;
    return rows(self->now, self->before, IOVA_BITMAP_AND);
}

static PyObject *diff_repr(struct diff *self)
{
    return PyUnicode_FromFormat(
        "Diff(appeared=%llu, disappeared=%llu, common=%llu)", (unsigned long long)self->appeared,
        (unsigned long long)self->disappeared, (unsigned long long)self->common);
}

/* By value: the same counts, of the same two bitmaps. */
static PyObject *diff_compare(PyObject *a, PyObject *b, int op)
{
    const struct diff *left = (struct diff *)a, *right = (struct diff *)b;

    if ((op != Py_EQ && op != Py_NE) || !Py_IS_TYPE(b, Py_TYPE(a))) {
        return Py_NewRef(Py_NotImplemented);
    }
    bool equal = left->appeared == right->appeared && left->disappeared == right->disappeared &&
                 left->common == right->common && left->now == right->now &&
                 left->before == right->before;
    return PyBool_FromLong(equal == (op == Py_EQ));
}

static Py_hash_t diff_hash(struct diff *self)
{
    PyObject *value = Py_BuildValue(
        "KKKKK", (unsigned long long)self->appeared, (unsigned long long)self->disappeared,
        (unsigned long long)self->common, (unsigned long long)(uintptr_t)self->now,
        (unsigned long long)(uintptr_t)self->before);
    Py_hash_t hash = value == NULL ? -1 : PyObject_Hash(value);

    Py_XDECREF(value);
    return hash;
}

static int diff_traverse(struct diff *self, visitproc visit, void *arg)
{
    Py_VISIT((PyObject *)Py_TYPE((PyObject *)self));
    Py_VISIT((PyObject *)self->now);
    Py_VISIT((PyObject *)self->before);
    return 0;
}

static void diff_dealloc(struct diff *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    freefunc tp_free = (freefunc)PyType_GetSlot(type, Py_tp_free);

    PyObject_GC_UnTrack(self);
    Py_XDECREF((PyObject *)self->now);
    Py_XDECREF((PyObject *)self->before);
    tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef diff_methods[] = {
    {"appeared_ranges", (PyCFunction)(void (*)(void))appeared_ranges, METH_NOARGS,
     appeared_ranges_doc},
    {"disappeared_ranges", (PyCFunction)(void (*)(void))disappeared_ranges, METH_NOARGS,
     disappeared_ranges_doc},
    {"common_ranges", (PyCFunction)(void (*)(void))common_ranges, METH_NOARGS, common_ranges_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef diff_members[] = {
    {"appeared", T_ULONGLONG, offsetof(struct diff, appeared), READONLY,
     "Pages dirty now and clean before."},
    {"disappeared", T_ULONGLONG, offsetof(struct diff, disappeared), READONLY,
     "Pages clean now and dirty before."},
    {"common", T_ULONGLONG, offsetof(struct diff, common), READONLY, "Pages dirty now and before."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot diff_slots[] = {
    {Py_tp_doc,
     "What changed between two bitmaps: counts of pages, and their ranges when asked.\n\n"
     "Made by IOVABitmap.diff(). The counts are those of that moment; ranges are read\n"
     "from the two bitmaps when a method is called. Equal are those with the same counts of the\n"
     "same two bitmaps."},
    {Py_tp_dealloc, diff_dealloc},
    {Py_tp_traverse, diff_traverse},
    {Py_tp_repr, diff_repr},
    {Py_tp_richcompare, diff_compare},
    {Py_tp_hash, diff_hash},
    {Py_tp_methods, diff_methods},
    {Py_tp_members, diff_members},
    {0, NULL},
};

PyType_Spec ib_diff_spec = {
    .name = "iovabitmap.Diff",
    .basicsize = sizeof(struct diff),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = diff_slots,
};
