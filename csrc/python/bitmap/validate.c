/*
 * validate.c - validate(): the invariants of the engine's bitmap and of the object over it.
 */
#include "python/bitmap/bitmap.h"

#include <string.h>

/* What the object holds. The name of what is broken, or NULL. */
static const char *check_object(struct ib_bitmap *self)
{
    if (self->memory == NULL || ib_memory_bytes(self->memory) == NULL) {
        return "memory: it is held";
    }
    if (ib_memory_size(self->memory) < ib_bitmap_geometry(self)->nbytes) {
        return "memory: it is as large as the bitmap";
    }
    return self->pin == NULL ? "pin: there is one" : NULL;
}

/* The same of the engine. Pins can be balanced only while no other operation is running; one that
 * came between is seen by what it counted, and then all is looked at again. */
static const char *check_engine(struct ib_bitmap *self)
{
    struct iova_bitmap_stats before, after;
    const char *broken;
    bool quiet;

    do {
        quiet = ib_shared_get(&self->uses) == IB_USE;
        before = iova_bitmap_stats_now(self->engine);
        iova_bitmap_validate(self->engine, quiet, &broken);
        after = iova_bitmap_stats_now(self->engine);
    } while (quiet && (memcmp(&before, &after, sizeof(before)) != 0 ||
                       ib_shared_get(&self->uses) != IB_USE));
    return broken;
}

const char ib_doc_validate[] =
    "validate($self, /)\n--\n\n"
    "Check every invariant: geometry, memory, the present window, the balance of pins.\n\n"
    "For tests, and for a look into a program that writes where it should not. Costs less than a\n"
    "microsecond: content is not read, as any bits are valid. While other operations are running\n"
    "the balance of pins is not looked at.\n\n"
    "Raises\n"
    "------\n"
    "AssertionError\n"
    "    Names the invariant that is broken: a defect of this package, or memory of it was\n"
    "    overwritten. With any setting of the interpreter, -O too.\n";

IB_METHOD_NOARGS(validate)
{
    struct ib_call call = {0};
    (void)unused;

    if (ib_call_begin_present(&call, self) < 0) {
        return NULL;
    }
    const char *broken = check_object(self);
    if (broken == NULL) {
        broken = check_engine(self);
    }
    ib_call_end(&call, 0);
    if (broken != NULL) {
        PyErr_Format(PyExc_AssertionError, "IOVABitmap is broken: it does not hold that %s",
                     broken);
        return NULL;
    }
    return ib_none();
}
