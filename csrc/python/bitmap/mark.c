/*
 * mark.c - methods that mark and clear: set, clear, test_and_set, reset.
 */
#include "python/module/binding.h"

enum { IOVA, LENGTH, CLIP, NARGUMENTS };

static const char *const range_names[] = {"iova", "length", "clip"};

typedef int (*engine_op)(struct iova_bitmap *, uint64_t, uint64_t, unsigned,
                         struct iova_bitmap_report *);

/* Parses a range, and runs op on it. 0 or -1. */
static int on_range(struct ib_bitmap *self, const struct ib_signature *signature,
                    PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, engine_op op,
                    unsigned flags, struct iova_bitmap_report *report)
{
    PyObject *parsed[NARGUMENTS] = {NULL};
    uint64_t iova, length;

    if (ib_parse(signature, args, nargs, kwnames, parsed) < 0 ||
        ib_u64(parsed[IOVA], "iova", &iova) < 0 || ib_u64(parsed[LENGTH], "length", &length) < 0) {
        return -1;
    }
    if (parsed[CLIP] != NULL) {
        int clip = PyObject_IsTrue(parsed[CLIP]);
        if (clip < 0) {
            return -1;
        }
        flags |= clip ? IOVA_BITMAP_CLIP : 0;
    }
    struct ib_turn turn;
    if (ib_bitmap_begin(self) < 0) {
        return -1;
    }
    int rc = ib_turn_begin(&turn, self, length);
    if (rc == 0) {
        rc = op(self->engine, iova, length, flags, report);
        ib_turn_end(&turn);
        if (rc < 0) {
            ib_raise(self->state, iova_bitmap_geometry(self->engine), rc, report, iova, length);
        }
    }
    ib_bitmap_end(self);
    return rc < 0 ? -1 : 0;
}

const char ib_doc_set[] =
    "set($self, /, iova, length, *, clip=False)\n--\n\n"
    "Mark every page that [iova, iova + length) touches as dirty.\n\n"
    "Parameters\n"
    "----------\n"
    "iova, length : int\n    A range in bytes of IOVA. Length 0 marks nothing.\n"
    "clip : bool\n    Mark the part inside the bitmap instead of raising IOVARangeError.\n\n"
    "Raises\n"
    "------\n"
    "IOVARangeError\n    Where the range is not all inside, or wraps 2**64. Nothing is marked.\n"
    "PinError\n    Where memory could not be pinned; its iova and length were not marked.\n\n"
    "Examples\n"
    "--------\n"
    ">>> bm = IOVABitmap(0, 0x4000)\n"
    ">>> bm.set(0x1800, 0x1000)\n"
    ">>> bm.ranges().tolist()\n"
    "[[4096, 8192]]\n";

IB_METHOD(set)
{
    static const struct ib_signature signature = {"set", 2, 2, 3, range_names};
    struct iova_bitmap_report report;

    if (on_range(self, &signature, args, nargs, kwnames, iova_bitmap_set, 0, &report) < 0) {
        return NULL;
    }
    return ib_none();
}

const char ib_doc_clear[] = "clear($self, /, iova, length, *, clip=False)\n--\n\n"
                            "Mark every page that [iova, iova + length) touches as clean.\n\n"
                            "Parameters and errors are those of set().\n";

IB_METHOD(clear)
{
    static const struct ib_signature signature = {"clear", 2, 2, 3, range_names};
    struct iova_bitmap_report report;

    if (on_range(self, &signature, args, nargs, kwnames, iova_bitmap_clear, 0, &report) < 0) {
        return NULL;
    }
    return ib_none();
}

const char ib_doc_test_and_set[] =
    "test_and_set($self, /, iova, length)\n--\n\n"
    "Mark every page that [iova, iova + length) touches; return how many were clean before.\n\n"
    "Errors are those of set(); after a PinError its `newly` is the number so far.\n";

IB_METHOD(test_and_set)
{
    static const struct ib_signature signature = {"test_and_set", 2, 2, 2, range_names};
    struct iova_bitmap_report report;

    if (on_range(self, &signature, args, nargs, kwnames, iova_bitmap_set, IOVA_BITMAP_COUNT,
                 &report) < 0) {
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(report.pages);
}

const char ib_doc_reset[] = "reset($self, /)\n--\n\n"
                            "Mark all pages as clean, through a window of its own.\n\n"
                            "Raises\n"
                            "------\n"
                            "PinError\n    Its iova and length were not cleared.\n";

IB_METHOD_NOARGS(reset)
{
    struct iova_bitmap_report report;
    (void)unused;

    if (ib_bitmap_begin(self) < 0) {
        return NULL;
    }
    PyThreadState *thread = ib_bitmap_unlock(self, iova_bitmap_geometry(self->engine)->nbytes);
    int rc = iova_bitmap_reset(self->engine, &report);
    ib_bitmap_relock(thread);
    if (rc < 0) {
        ib_raise(self->state, iova_bitmap_geometry(self->engine), rc, &report, 0, 0);
    }
    ib_bitmap_end(self);
    if (rc < 0) {
        return NULL;
    }
    return ib_none();
}
