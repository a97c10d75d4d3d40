/*
 * call.c - one call of the engine, from its begin to its exception.
 */
#include "python/threads/threads.h"

static bool runs_python(const struct ib_bitmap *self)
{
    return self != NULL && ib_bitmap_has_pin_object(self);
}

static int begin(const struct ib_call *call, struct ib_bitmap *self)
{
    if (!call->held) {
        return ib_bitmap_begin(self);
    }
    ib_bitmap_hold(self);
    return 0;
}

int ib_call_begin(struct ib_call *call, struct ib_bitmap *self, struct ib_bitmap *other,
                  uint64_t bytes)
{
    if (begin(call, self) < 0) {
        return -1;
    }
    if (other != NULL && begin(call, other) < 0) {
        ib_bitmap_end(self);
        return -1;
    }
    call->bitmap = self;
    call->other = other;
    call->is_present = false;
    call->thread = NULL;
    if (bytes >= IB_UNLOCK_BYTES && !runs_python(self) && !runs_python(other)) {
        call->thread = ib_unlock();
    }
    return 0;
}

int ib_call_begin_present(struct ib_call *call, struct ib_bitmap *self)
{
    if (ib_call_begin(call, self, NULL, 0) < 0) {
        return -1;
    }
    call->is_present = true;
    ib_present_begin(&call->present, self);
    return 0;
}

int ib_call_end(struct ib_call *call, int rc)
{
    struct ib_bitmap *self = call->bitmap;

    if (call->thread != NULL) {
        ib_relock(call->thread);
    }
    if (call->is_present) {
        ib_present_end(&call->present);
    }
    if (rc < 0) {
        ib_raise(self->state, ib_bitmap_geometry(self), rc, &call->report, call->iova,
                 call->length);
    }
    if (call->other != NULL) {
        ib_bitmap_end(call->other);
    }
    ib_bitmap_end(self);
    return rc < 0 ? -1 : rc;
}

int ib_call_answer(struct ib_call *call, int rc)
{
    if (rc < 0) {
        call->report.pages = 0;
    }
    return ib_call_end(call, rc);
}
