/*
 * test_pin_populate.c - the backend "populate" on memory that is gone: a truncated file, a hole,
 * protected pages. Each is an errno where a plain access would be a signal, also when the window
 * was taken before the memory went; what lies before is done, and after repair the rest can be.
 */
#include <errno.h>
#include <string.h>

#include "area.h"
#include "check.h"
#include "core/pin/pin.h"

#ifdef __linux__

#include <unistd.h>

/* A bit for each address; the bitmap's first byte is 50 bytes into the first of 6 host pages, of
 * which those from BAD on go. */
enum { PGOFF = 50, PAGES = 6, BAD = 3 };

static uint64_t page;
static const struct iova_bitmap_pin_ops *populate;

enum loss { TRUNCATED, HOLE, INACCESSIBLE, READ_ONLY, N_LOSSES };
static const int loss_errno[] = {-EFAULT, -ENOMEM, -EINVAL, -EINVAL};

struct memory {
    struct area area;
    int fd; /* a file mapped to the area, or -1 */
};

static void map_file(const struct memory *m)
{
    void *at =
        mmap(m->area.bytes, m->area.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, m->fd, 0);
    CHECK(at == m->area.bytes, "errno %d", errno);
}

static struct memory make_memory(void)
{
    struct memory m = {.area = area_map(PAGES), .fd = memfd_create("bitmap", MFD_CLOEXEC)};

    if (m.fd < 0 || ftruncate(m.fd, (off_t)m.area.size) != 0) {
        check_skip("no memory file");
    }
    map_file(&m);
    return m;
}

static void drop_memory(struct memory *m)
{
    close(m->fd);
    area_unmap(&m->area);
}

static void lose(const struct memory *m, enum loss loss)
{
    switch (loss) {
    case TRUNCATED:
        CHECK_EQ(ftruncate(m->fd, (off_t)(BAD * page)), 0);
        break;
    case HOLE:
        CHECK_EQ(munmap(m->area.bytes + BAD * page, (PAGES - BAD) * page), 0);
        break;
    case INACCESSIBLE:
        area_protect(&m->area, BAD, PAGES - BAD, PROT_NONE);
        break;
    default:
        area_protect(&m->area, BAD, PAGES - BAD, PROT_READ);
        break;
    }
}

static void repair(const struct memory *m)
{
    CHECK_EQ(ftruncate(m->fd, (off_t)m->area.size), 0);
    map_file(m);
}

static struct iova_bitmap *make_bitmap(const struct memory *m, uint64_t window_pages)
{
    const struct iova_bitmap_options options = {.window_pages = window_pages, .pin = populate};
    struct iova_bitmap *bitmap = NULL;

    CHECK_EQ(iova_bitmap_alloc(0, (m->area.size - PGOFF) * 8, 1, m->area.bytes + PGOFF,
                               m->area.size - PGOFF, &options, &bitmap),
             0);
    return bitmap;
}

static void check_report(const struct iova_bitmap_report *report, uint64_t pages, uint64_t iova,
                         uint64_t end)
{
    CHECK_EQ(report->pages, pages);
    CHECK_EQ(report->iova, iova);
    CHECK_EQ(report->length, end - iova);
}

/* A range over the bad pages, and one all inside of them; with a window taken before or not. */
static void test_marks(enum loss loss, uint64_t window_pages, bool present)
{
    struct memory m = make_memory();
    struct iova_bitmap *bitmap = make_bitmap(&m, window_pages);
    const uint64_t bad = (BAD * page - PGOFF) * 8; /* the first bit that is gone */
    const uint64_t first = (page - PGOFF) * 8 + 5;
    const uint64_t end = (5 * page - PGOFF) * 8 + 1;
    struct iova_bitmap_report report;

    CHECK_EQ(iova_bitmap_set(bitmap, first + 2, 3, 0, NULL), 0);
    if (!present) {
        iova_bitmap_release(bitmap);
    }
    const uint64_t moves = iova_bitmap_stats(bitmap)->moves;
    const uint64_t taken = iova_bitmap_window_nbytes(bitmap, iova_bitmap_present_window(bitmap));
    lose(&m, loss);
    CHECK_EQ(iova_bitmap_set(bitmap, first, end - first, 0, &report), loss_errno[loss]);
    check_report(&report, bad - first - 3, bad, end);
    CHECK_EQ(iova_bitmap_set(bitmap, bad + 9, 7, 0, &report), loss_errno[loss]);
    check_report(&report, 0, bad + 9, bad + 16);
    CHECK_EQ(iova_bitmap_clear(bitmap, bad - 1, 2, 0, &report), loss_errno[loss]);
    check_report(&report, 0, bad, bad + 1);
    if (present && first / 8 + taken > bad / 8) { /* touched, neither moved nor pinned */
        CHECK_EQ(iova_bitmap_stats(bitmap)->moves, moves);
        CHECK_EQ(iova_bitmap_stats(bitmap)->pins, moves);
    }

    repair(&m);
    CHECK_EQ(iova_bitmap_set(bitmap, first, end - first, IOVA_BITMAP_COUNT, &report), 0);
    CHECK_EQ(report.pages, end - bad + 1); /* the one that was cleared, too */
    CHECK_EQ(iova_bitmap_count(bitmap, 0, (m.area.size - PGOFF) * 8, 0, &report), 0);
    CHECK_EQ(report.pages, end - first);
    iova_bitmap_free(bitmap);
    drop_memory(&m);
}

/* All that reads, and reset, which writes. */
static int batch(struct iova_bitmap *bitmap, int operation, uint8_t *out,
                 struct iova_bitmap_report *report)
{
    const uint64_t length = iova_bitmap_geometry(bitmap)->length;
    struct iova_bitmap_ranges ranges = {0};
    int rc;

    switch (operation) {
    case 0:
        return iova_bitmap_reset(bitmap, report);
    case 1:
        return iova_bitmap_count(bitmap, 0, length, 0, report);
    case 2:
        rc = iova_bitmap_ranges(bitmap, 0, length, 0, &ranges, report);
        iova_bitmap_rows_free(ranges.rows);
        return rc;
    case 3:
        return iova_bitmap_read(bitmap, out, report);
    case 4:
        return iova_bitmap_to_mask(bitmap, out, report);
    default:
        rc = iova_bitmap_equal(bitmap, bitmap, report);
        return rc < 0 ? rc : !rc;
    }
}

static void test_batches(enum loss loss, uint64_t window_pages)
{
    struct memory m = make_memory();
    struct iova_bitmap *bitmap = make_bitmap(&m, window_pages);
    const uint64_t bad = (BAD * page - PGOFF) * 8;
    const uint64_t end = iova_bitmap_geometry(bitmap)->length;
    struct iova_bitmap_report report;
    uint8_t *out = malloc(end);

    if (out == NULL) {
        check_skip("no memory");
    }
    for (int present = 0; present < 2; present++) {
        if (present) {
            CHECK_EQ(iova_bitmap_set(bitmap, 0, end, 0, NULL), 0);
        }
        lose(&m, loss);
        for (int operation = 0; operation < 6; operation++) {
            bool possible = loss == READ_ONLY && operation > 0; /* reads need no more than that */
            CHECK_EQ(batch(bitmap, operation, out, &report), possible ? 0 : loss_errno[loss]);
            check_report(&report, report.pages, possible ? 0 : bad, possible ? 0 : end);
        }
        CHECK_EQ(iova_bitmap_test(bitmap, bad - 1), 0);
        CHECK_EQ(iova_bitmap_test(bitmap, bad), loss == READ_ONLY ? present : loss_errno[loss]);
        repair(&m);
        for (int operation = 0; operation < 6; operation++) {
            CHECK_EQ(batch(bitmap, operation, out, &report), 0);
        }
        CHECK_EQ(iova_bitmap_stats(bitmap)->pinned_pages,
                 iova_bitmap_present_window(bitmap)->npages);
    }
    free(out);
    iova_bitmap_free(bitmap);
    drop_memory(&m);
}

/* Pages are delivered up to the first bad one, wherever that is. */
static void test_prefix(void)
{
    struct area area = area_map(33);
    struct iova_bitmap_report report;

    for (uint64_t bad = 0; bad < area.npages; bad++) {
        area_protect(&area, bad, 1, PROT_NONE);
        CHECK_EQ(populate->pin(NULL, (uintptr_t)area.bytes, 33, IOVA_BITMAP_WRITE),
                 bad == 0 ? -EINVAL : (int64_t)bad);
        CHECK_EQ(populate->pin(NULL, (uintptr_t)area.bytes, bad + 1, IOVA_BITMAP_READ),
                 bad == 0 ? -EINVAL : (int64_t)bad);
        area_protect(&area, bad, 1, PROT_READ | PROT_WRITE);
    }

    /* Two kinds of loss: the errno is that of the first. */
    struct memory m = make_memory();
    struct iova_bitmap *bitmap = make_bitmap(&m, 0);
    const uint64_t end = iova_bitmap_geometry(bitmap)->length;
    lose(&m, TRUNCATED);
    CHECK_EQ(munmap(m.area.bytes + (PAGES - 1) * page, page), 0);
    CHECK_EQ(iova_bitmap_set(bitmap, 0, end, 0, &report), -EFAULT);
    CHECK_EQ(report.iova, (BAD * page - PGOFF) * 8);
    area_protect(&m.area, 0, 2, PROT_NONE);
    CHECK_EQ(iova_bitmap_set(bitmap, 0, end, 0, &report), -EINVAL);
    check_report(&report, 0, 0, end);
    iova_bitmap_free(bitmap);
    drop_memory(&m);
    area_unmap(&area);
}

int main(void)
{
    const uint64_t sizes[] = {1, 2, 4, 512};

    page = iova_bitmap_host_page_size();
    int rc = iova_bitmap_pin_backend("populate", &populate);
    if (rc == -ENOTSUP) {
        check_skip("no MADV_POPULATE_WRITE (it came with Linux 5.14; emulators may lack it)");
    }
    CHECK_EQ(rc, 0);
    test_prefix();
    for (int loss = 0; loss < N_LOSSES; loss++) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            test_marks((enum loss)loss, sizes[i], false);
            test_marks((enum loss)loss, sizes[i], true);
            test_batches((enum loss)loss, sizes[i]);
        }
    }
    return check_result();
}

#else

int main(void)
{
    const struct iova_bitmap_pin_ops *ops;

    CHECK_EQ(iova_bitmap_pin_backend("populate", &ops), -ENOTSUP);
    return check_result();
}

#endif
