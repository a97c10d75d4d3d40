/*
 * bitmap.h - the methods of the type IOVABitmap, a few of them to a file, and what they share.
 */
#ifndef IB_BITMAP_H
#define IB_BITMAP_H

#include "python/threads/threads.h"

extern PyType_Spec ib_bitmap_spec;
extern PyType_Spec ib_diff_spec;
extern PyType_Spec ib_range_iterator_spec;
extern PyType_Spec ib_window_iterator_spec;

extern const char ib_doc_alloc[];
PyObject *ib_alloc(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
extern const char ib_doc_restore[];
PyObject *ib_restore(PyObject *module, PyObject *args);
/* The capsule for other C code. 0 or -1. */
int ib_add_capi(PyObject *module);

/* TypeError that names the argument, and -1, where `other` is no bitmap of this module. */
int ib_bitmap_check_type(struct ib_bitmap *self, PyObject *other, const char *name);
/* ib_call_begin on two bitmaps; ValueError where their geometries differ. */
int ib_call_begin_same(struct ib_call *call, struct ib_bitmap *self, struct ib_bitmap *other);

/* The range (iova=None, length=None): an iova left out is the base, a length left out reaches to
 * the end. Where iova lies behind the end, that length is 0 and the range is outside. 0 or -1. */
int ib_bitmap_optional_range(struct ib_bitmap *self, PyObject *iova_object, PyObject *length_object,
                             uint64_t *iova, uint64_t *length);

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

/* mark.c */
IB_METHOD(set);
IB_METHOD(clear);
IB_METHOD(test_and_set);
IB_METHOD_NOARGS(reset);
/* validate.c */
IB_METHOD_NOARGS(validate);
/* batch.c */
IB_METHOD(set_ranges);
IB_METHOD(clear_ranges);
IB_METHOD(set_pages);
/* query.c */
IB_METHOD(test);
IB_METHOD(count);
IB_METHOD(any);
IB_METHOD(all);
IB_METHOD(find_dirty);
IB_METHOD(find_clean);
IB_METHOD(count_ranges);
IB_METHOD(histogram);
/* ranges.c */
IB_METHOD(ranges);
IB_METHOD(iter_ranges);
IB_METHOD(pages);
/* harvest.c */
IB_METHOD(read_and_clear);
IB_METHOD(merge);
IB_METHOD(rescale);
/* algebra.c */
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
/* diff.c */
IB_METHOD(diff);
/* array.c */
IB_METHOD(view);
IB_METHOD_NOARGS(to_mask);
IB_METHOD(__array__);
/* arrow.c */
IB_METHOD(__arrow_c_array__);
/* text.c */
IB_METHOD_NOARGS(to_text);
IB_METHOD_NOARGS(_repr_html_);
extern const char ib_doc_from_text[];
PyObject *ib_bitmap_from_text(PyTypeObject *type, PyObject *args, PyObject *kwargs);
PyObject *ib_bitmap_repr(struct ib_bitmap *self);
/* walk.c */
IB_METHOD(for_each);
IB_METHOD_NOARGS(windows);
/* copy.c */
IB_METHOD_NOARGS(copy);
IB_METHOD_NOARGS(__copy__);
IB_METHOD(__deepcopy__);
IB_METHOD_NOARGS(__reduce__);

#endif
