/*
 * mark.c - methods that mark and clear: set, clear, test_and_set, reset.
 */
#include "python/bitmap/bitmap.h"

enum { IOVA, LENGTH, CLIP, EXCLUSIVE, NARGUMENTS };

static const char *const range_names[] = {"iova", "length", "clip", "exclusive"};

typedef int (*engine_op)(struct iova_bitmap *, uint64_t, uint64_t, unsigned,
                         struct iova_bitmap_report *);

/* Parses a range, and runs op on it: the pages that it counted in *pages. 0 or -1. */
static int on_range(struct ib_bitmap *self, const struct ib_signature *signature,
                    PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, engine_op op,
                    unsigned flags, uint64_t *pages)
{
    PyObject *parsed[NARGUMENTS] = {NULL};
    struct ib_call call = {0};

    if (ib_parse(signature, args, nargs, kwnames, parsed) < 0 ||
        ib_u64(parsed[IOVA], "iova", &call.iova) < 0 ||
        ib_u64(parsed[LENGTH], "length", &call.length) < 0 ||
        ib_flag(parsed[CLIP], IOVA_BITMAP_CLIP, &flags) < 0 ||
        ib_flag(parsed[EXCLUSIVE], IOVA_BITMAP_EXCLUSIVE, &flags) < 0 ||
        ib_call_begin_present(&call, self) < 0) {
        return -1;
    }
    int rc = op(self->engine, call.iova, call.length, flags, &call.report);
    *pages = call.report.pages;
    return ib_call_end(&call, rc);
}

/* The common case in few steps: no Python code and no other thread runs in it, so it need not
 * begin and end. NULL without an exception: it is another case. */
static PyObject *set_quickly(struct ib_bitmap *self, PyObject *iova_object, PyObject *length_object)
{
#ifdef Py_GIL_DISABLED
    (void)self, (void)iova_object, (void)length_object;
    return NULL;
#else
    struct iova_bitmap_report report;
    uint64_t iova, length;

    if (!ib_exact_u64(iova_object, &iova) || !ib_exact_u64(length_object, &length) ||
        length >= self->quick_length || ib_bitmap_is_freed(self)) {
        return NULL;
    }
    int rc = iova_bitmap_set(self->engine, iova, length, 0, &report);
    if (rc < 0) {
        return ib_raise(self->state, ib_bitmap_geometry(self), rc, &report, iova, length);
    }
    return ib_none();
#endif
}

const char ib_doc_set[] =
    "set($self, /, iova, length, *, clip=False, exclusive=False)\n--\n\n"
    "Mark every page that [iova, iova + length) touches as dirty.\n\n"
    "Parameters\n"
    "----------\n"
    "iova, length : int\n    A range in bytes of IOVA. Length 0 marks nothing.\n"
    "clip : bool\n    Mark the part inside the bitmap instead of raising IOVARangeError.\n"
    "exclusive : bool\n"
    "    You say that nobody else marks this memory concurrently: plain stores may be used.\n\n"
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
    static const struct ib_signature signature = {"set", 2, 2, 4, range_names};
    PyObject *done = NULL;
    uint64_t pages;

    if (nargs == 2 && kwnames == NULL) {
        done = set_quickly(self, args[IOVA], args[LENGTH]);
        if (done != NULL || PyErr_Occurred()) {
            return done;
        }
    }
    return on_range(self, &signature, args, nargs, kwnames, iova_bitmap_set, 0, &pages) < 0
               ? NULL
               : ib_none();
}

const char ib_doc_clear[] = "clear($self, /, iova, length, *, clip=False, exclusive=False)\n--\n\n"
                            "Mark every page that [iova, iova + length) touches as clean.\n\n"
                            "Parameters and errors are those of set().\n";

IB_METHOD(clear)
{
    static const struct ib_signature signature = {"clear", 2, 2, 4, range_names};
    uint64_t pages;

    return on_range(self, &signature, args, nargs, kwnames, iova_bitmap_clear, 0, &pages) < 0
               ? NULL
               : ib_none();
}

const char ib_doc_test_and_set[] =
    "test_and_set($self, /, iova, length)\n--\n\n"
    "Mark every page that [iova, iova + length) touches; return how many were clean before.\n\n"
    "Errors are those of set(); after a PinError its `newly` is the number so far.\n";

IB_METHOD(test_and_set)
{
    static const struct ib_signature signature = {"test_and_set", 2, 2, 2, range_names};
    uint64_t pages;

    return on_range(self, &signature, args, nargs, kwnames, iova_bitmap_set, IOVA_BITMAP_COUNT,
                    &pages) < 0
               ? NULL
               : PyLong_FromUnsignedLongLong(pages);
}

const char ib_doc_reset[] = "reset($self, /)\n--\n\n"
                            "Mark all pages as clean, through a window of its own.\n\n"
                            "Raises\n"
                            "------\n"
                            "PinError\n    Its iova and length were not cleared.\n";

IB_METHOD_NOARGS(reset)
{
    struct ib_call call = {0};
    (void)unused;

    if (ib_call_begin(&call, self, NULL, ib_bitmap_geometry(self)->nbytes) < 0) {
        return NULL;
    }
    return ib_call_end(&call, iova_bitmap_reset(self->engine, &call.report)) < 0 ? NULL : ib_none();
}
